"""What training costs and reaches, beside the libraries people train with."""

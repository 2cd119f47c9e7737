"""What Prometheus and Grafana read; the dashboards are generated."""

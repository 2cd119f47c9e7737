"""Does the transition log lose or double anything it accepted, whatever dies?"""

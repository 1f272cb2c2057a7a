"""For Prometheus and Grafana: alert rules and a dashboard over the metrics of actors/metrics.py, served at /ops/."""

"""For Prometheus and Grafana: a dashboard, and alert rules over the metrics; served at /ops/.

alerts.yml    Prometheus alert rules
grafana.json  a Grafana dashboard
index.html    says what is there
"""

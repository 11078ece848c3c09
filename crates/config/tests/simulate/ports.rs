//! Which ports pods serve, by which container, for which Service, in which protocol.

use crate::check;

#[test]
fn each_container_has_its_own_ports_and_services_say_what_they_speak() {
    let yaml = "apiVersion: v1
kind: Pod
metadata: {name: p, labels: {app: p}}
spec:
  containers:
  - {name: web, ports: [{name: http, containerPort: 8080}, {name: admin, containerPort: 9000}, {name: grpc-api, containerPort: 7000}]}
  - {name: exporter, ports: [{name: metrics, containerPort: 9102}, {containerPort: 3306}, {name: dns, containerPort: 53, protocol: UDP}]}
  initContainers:
  - {name: migrate, ports: [{containerPort: 1}]}
  - {name: vault, restartPolicy: Always, ports: [{name: tcp-vault, containerPort: 8200}]}
---
apiVersion: v1
kind: Service
metadata: {name: z}
spec: {selector: {app: p}, ports: [{name: http, port: 1, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: a}
spec:
  selector: {app: p}
  ports:
  - {name: web, port: 80, targetPort: http, appProtocol: kubernetes.io/h2c}
  - {name: redis-x, port: 81, targetPort: admin}
  - {name: udp, port: 53, protocol: UDP}
";
    check(
        "ports endpoints all-findings",
        yaml,
        r#"default/p 127.0.1.1
           web 8080 http http2 a.default.svc.cluster.local:80
           web 9000 admin redis a.default.svc.cluster.local:81
           web 7000 grpc-api grpc
           exporter 9102 metrics http
           exporter 3306 tcp
           vault 8200 tcp-vault tcp
         outbound|1||z.default.svc.cluster.local p=127.0.1.1:8080
         outbound|80||a.default.svc.cluster.local p=127.0.1.1:8080
         outbound|81||a.default.svc.cluster.local p=127.0.1.1:9000
         info [OUT0301] Pod default/p f.yaml:7:91: port 53 of container "exporter" speaks UDP, which is not simulated"#,
    );
}

#[test]
fn ports_that_only_a_service_knows_are_served_by_the_first_container() {
    let yaml = "apiVersion: apps/v1
kind: Deployment
metadata: {name: d}
spec:
  replicas: 2
  selector: {matchLabels: {app: d}}
  template: {metadata: {labels: {app: d}}, spec: {containers: [{name: web}, {name: other, ports: [{containerPort: 9090}]}]}}
---
apiVersion: v1
kind: Service
metadata: {name: d}
spec:
  selector: {app: d}
  ports:
  - {name: http, port: 80, targetPort: 8080}
  - {name: metrics, port: 9090}
  - {name: named, port: 81, targetPort: nothing}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: e}
spec:
  hosts: [d.example.com]
  ports: [{number: 443, name: tls, targetPort: 8443}]
  resolution: STATIC
  workloadSelector: {labels: {app: d}}
";
    check(
        "ports endpoints all-findings",
        yaml,
        r#"default/d-0 127.0.1.1 of d
           other 9090 http d.default.svc.cluster.local:9090
           web 8080 http d.default.svc.cluster.local:80
           web 8443 tls d.example.com:443
         default/d-1 127.0.1.2 of d
           other 9090 http d.default.svc.cluster.local:9090
           web 8080 http d.default.svc.cluster.local:80
           web 8443 tls d.example.com:443
         outbound|443||d.example.com d-0=127.0.1.1:8443 d-1=127.0.1.2:8443
         outbound|80||d.default.svc.cluster.local d-0=127.0.1.1:8080 d-1=127.0.1.2:8080
         outbound|81||d.default.svc.cluster.local
         outbound|9090||d.default.svc.cluster.local d-0=127.0.1.1:9090 d-1=127.0.1.2:9090
         info [OUT0302] Service default/d f.yaml:15:40: no container of Deployment default/d declares port 8080; it is simulated on container "web" (add it to the container's `ports`, or correct the Service, if that is not what is meant)
         warning [OUT0310] Service default/d f.yaml:17:41: port 81: no container of Deployment default/d has a port named "nothing"; its ports are 9090 of other (its pods get no requests for that port; name one of these ports, or give its number)
         info [OUT0302] ServiceEntry default/e f.yaml:24:11: no container of Deployment default/d declares port 8443; it is simulated on container "web" (add it to the container's `ports`, or correct the Service, if that is not what is meant)"#,
    );
}

#[test]
fn a_port_has_one_container_and_the_sidecar_keeps_its_own() {
    let yaml = "apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  containers:
  - name: a
    ports:
    - {name: http, containerPort: 80}
    - {name: web, containerPort: 80}
    - {containerPort: 15020}
  - name: b
    ports:
    - {containerPort: 80}
";
    check(
        "ports all-findings",
        yaml,
        r#"default/p 127.0.1.1
           a 80 http http
         warning [OUT0304] Pod default/p f.yaml:10:7: port 15020 of container "a" is one that the sidecar uses; it is not simulated (use another port)
         warning [OUT0303] Pod default/p f.yaml:13:7: port 80 of container "b" belongs to container "a" already (the containers of a pod share one address; give one of them another port)"#,
    );
}

#[test]
fn injected_proxies_are_left_out_and_pods_of_proxies_alone_are_gateways() {
    let yaml = "apiVersion: v1
kind: Pod
metadata: {name: injected, labels: {app: i}}
spec:
  containers:
  - {name: web, image: 'registry:5000/web:1', ports: [{containerPort: 80}]}
  initContainers:
  - {name: proxy, image: 'docker.io/istio/proxyv2:1.27.0@sha256:00', restartPolicy: Always, ports: [{containerPort: 15090}, {containerPort: 9999}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: istio-ingressgateway}
spec: {selector: {matchLabels: {istio: gw}}, template: {metadata: {labels: {istio: gw}}, spec: {containers: [{name: istio-proxy, image: auto, ports: [{containerPort: 8080}]}]}}}
---
apiVersion: v1
kind: Service
metadata: {name: istio-ingressgateway}
spec: {selector: {istio: gw}, ports: [{name: http, port: 80, targetPort: 8080}]}
";
    check(
        "ports endpoints all-findings",
        yaml,
        r#"default/injected 127.0.1.1
           web 80 http
         outbound|80||istio-ingressgateway.default.svc.cluster.local
         info [OUT0301] Pod default/injected f.yaml:8:5: container "proxy" is a proxy that was injected; it is not simulated, the pod gets a sidecar anyway
         info [OUT0301] Deployment default/istio-ingressgateway f.yaml:12:18: only a proxy, so no pod is simulated; gateways run from their Gateway objects
         warning [OUT0308] Service default/istio-ingressgateway f.yaml:17:18: the pod that it selects (istio=gw) takes no traffic; requests to it get 503 (flag UH) (see what is said of that pod)"#,
    );
}

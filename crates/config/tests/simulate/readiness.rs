//! Which pods take traffic.

use crate::{app, check};

#[test]
fn a_probe_of_a_port_that_nothing_serves_keeps_the_pod_out() {
    let probe = |probe: &str| {
        let ports = "ports: [{name: http, containerPort: 8080}]";
        app("a", 1).replace(ports, &format!("{ports}, readinessProbe: {{{probe}}}"))
    };
    let endpoint = "outbound|80||a.default.svc.cluster.local a-0=127.0.1.1:8080";
    for good in [
        "httpGet: {path: /healthz, port: http, scheme: HTTP, httpHeaders: []}, periodSeconds: 5",
        "httpGet: {port: 8080}",
        "tcpSocket: {port: 8080}",
        "grpc: {port: 8080, service: x}",
        "exec: {command: [ls]}",
        "httpGet: {port: 9, host: example.com}",
        "httpGet: {path: /app-health/web/readyz, port: 15020}",
    ] {
        check("endpoints findings", &probe(good), endpoint);
    }
    check(
        "pods endpoints findings",
        &probe("httpGet: {port: htttp}"),
        r#"default/a-0 127.0.1.1 of a not ready
         outbound|80||a.default.svc.cluster.local
         warning [OUT0305] Deployment default/a f.yaml:11:81: never ready: the readinessProbe of container "web" asks httpGet port "htttp", which that container does not have; the ports are http (8080) of web (correct the probe's port, or add the port to the container's `ports`)
         warning [OUT0308] Service default/a f.yaml:15:18: the pod that it selects (app=a) takes no traffic; requests to it get 503 (flag UH) (see what is said of that pod)"#,
    );
    check(
        "findings",
        &probe("tcpSocket: {port: 8081}").replace("replicas: 1", "replicas: 3"),
        r#"warning [OUT0305] Deployment default/a f.yaml:11:81: never ready: the readinessProbe of container "web" asks tcpSocket port 8081, which no container serves; the ports are http (8080) of web (correct the probe's port, or add the port to the container's `ports`)
         warning [OUT0308] Service default/a f.yaml:15:18: none of the 3 pods that it selects (app=a) takes traffic; requests to it get 503 (flag UH) (see what is said of those pods)"#,
    );
}

#[test]
fn readiness_gates_wait_for_their_condition() {
    let pod = |conditions: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: p, labels: {{app: a}}}}\nspec: {{readinessGates: [{{conditionType: example.com/lb}}], \
             containers: [{{name: c, ports: [{{containerPort: 80}}]}}]}}\nstatus: {{phase: Running, conditions: [{conditions}]}}\n"
        )
    };
    check("pods findings", &pod("{type: example.com/lb, status: 'True'}"), "default/p 127.0.1.1");
    check(
        "pods findings",
        &pod("{type: example.com/lb, status: 'False'}, {type: Ready, status: 'True'}"),
        r#"default/p 127.0.1.1 not ready
         warning [OUT0306] Pod default/p f.yaml:4:25: not ready: condition "example.com/lb" of its readinessGates is False in its status; it gets no traffic (remove the gate, or give a Pod with that condition in its status)"#,
    );
    check(
        "pods findings",
        &pod("{type: Ready, status: Unknown}"),
        r#"default/p 127.0.1.1 not ready
         warning [OUT0306] Pod default/p f.yaml:3:18: not ready, as its status says: Ready is Unknown; it gets no traffic (remove `status` to simulate it as ready)
         warning [OUT0306] Pod default/p f.yaml:4:25: not ready: condition "example.com/lb" of its readinessGates is absent in its status; it gets no traffic (remove the gate, or give a Pod with that condition in its status)"#,
    );
}

#[test]
fn a_service_may_publish_pods_that_are_not_ready() {
    let yaml = app("a", 1)
        .replace("spec:\n      containers", "spec:\n      readinessGates: [{conditionType: x}]\n      containers")
        .replace("selector: {app: a}", "publishNotReadyAddresses: true\n  selector: {app: a}");
    check(
        "pods endpoints findings",
        &yaml,
        r#"default/a-0 127.0.1.1 of a not ready
         outbound|80||a.default.svc.cluster.local a-0=127.0.1.1:8080
         warning [OUT0306] Deployment default/a f.yaml:10:24: not ready: condition "x" of its readinessGates is absent in its status; it gets no traffic (remove the gate, or give a Pod with that condition in its status)"#,
    );
}

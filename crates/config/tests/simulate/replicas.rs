//! Which pods there are.

use outrigger_config::loader::load_text;
use outrigger_config::simulate::Simulation;
use outrigger_config::translate::{View, translate};

use crate::{app, check};

#[test]
fn a_deployment_has_its_replicas_one_by_default_and_none_with_zero() {
    let yaml = app("a", 2)
        + &app("none", 0)
        + "apiVersion: apps/v1
kind: Deployment
metadata: {name: b, namespace: shop}
spec: {selector: {matchLabels: {app: b}}, template: {metadata: {labels: {app: b}}, spec: {serviceAccountName: robot, containers: [{name: c}]}}}
";
    check(
        "ports facts services findings",
        &yaml,
        "default/a-0 127.0.1.1 of a
           web 8080 http http a.default.svc.cluster.local:80
         default/a-1 127.0.1.2 of a
           web 8080 http http a.default.svc.cluster.local:80
         shop/b-0 127.0.1.3 of b
         a-0 default/a app=a version=v1 a-0 spiffe://cluster.local/ns/default/sa/default
         a-1 default/a app=a version=v1 a-1 spiffe://cluster.local/ns/default/sa/default
         b-0 shop/b app=b version=unknown b-0 spiffe://cluster.local/ns/shop/sa/robot
         default/a [80] 2
         default/none [80] 0
         warning [OUT0308] Service default/none f.yaml:35:18: selects no pod of the input (app=none); requests to it get 503 (flag UH) (compare its selector with the labels of the workloads' templates in this namespace)",
    );
}

#[test]
fn a_stateful_set_counts_from_its_first_ordinal_and_labels_its_pods() {
    check(
        "pods labels endpoints findings",
        "apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  replicas: 2
  serviceName: db
  ordinals: {start: 3}
  selector: {matchLabels: {app: db}}
  template: {metadata: {labels: {app: db}}, spec: {containers: [{name: c, ports: [{containerPort: 5432}]}]}}
---
apiVersion: v1
kind: Service
metadata: {name: db-3}
spec: {selector: {statefulset.kubernetes.io/pod-name: db-3}, ports: [{name: tcp, port: 5432}]}
",
        "default/db-3 127.0.1.1 of db
         default/db-4 127.0.1.2 of db
         db-3 app=db apps.kubernetes.io/pod-index=3 statefulset.kubernetes.io/pod-name=db-3
         db-4 app=db apps.kubernetes.io/pod-index=4 statefulset.kubernetes.io/pod-name=db-4
         outbound|5432||db-3.default.svc.cluster.local db-3=127.0.1.1:5432",
    );
}

#[test]
fn a_daemon_set_has_a_pod_on_every_node_and_one_without_nodes() {
    let set = "apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent}
spec: {selector: {matchLabels: {app: agent}}, template: {metadata: {labels: {app: agent}}, spec: {containers: [{name: c, ports: [{containerPort: 80}]}]}}}
---
apiVersion: v1
kind: Service
metadata: {name: agent}
spec: {selector: {app: agent}, ports: [{name: http, port: 80}]}
---
";
    let node = |name: &str, zone: &str| {
        format!(
            "apiVersion: v1\nkind: Node\nmetadata: {{name: {name}, labels: {{topology.kubernetes.io/region: r, topology.kubernetes.io/zone: {zone}}}}}\n---\n"
        )
    };
    check("endpoints", set, "outbound|80||agent.default.svc.cluster.local agent-0=127.0.1.1:80");
    check(
        "endpoints",
        &(set.to_owned() + &node("n1", "z1") + &node("n2", "z2")),
        "outbound|80||agent.default.svc.cluster.local agent-n1=127.0.1.1:80@r/z1 agent-n2=127.0.1.2:80@r/z2",
    );
    let pod = "apiVersion: v1
kind: Pod
metadata: {name: agent-x7, labels: {app: agent}, ownerReferences: [{kind: DaemonSet, name: agent, controller: true}]}
spec: {nodeName: n2, containers: [{name: c, ports: [{containerPort: 80}]}]}
";
    check(
        "endpoints",
        &(set.to_owned() + &node("n1", "z1") + &node("n2", "z2") + pod),
        "outbound|80||agent.default.svc.cluster.local agent-x7=127.0.1.1:80@r/z2 agent-n1=127.0.1.2:80@r/z1",
    );
}

#[test]
fn a_job_runs_so_many_pods_as_it_may_and_still_needs() {
    let job = |name: &str, spec: &str, status: &str| {
        format!(
            "apiVersion: batch/v1\nkind: Job\nmetadata: {{name: {name}}}\nspec: {{{spec}template: {{spec: {{restartPolicy: Never, containers: [{{name: c}}]}}}}}}\n{status}---\n"
        )
    };
    let yaml = job("once", "", "")
        + &job("wide", "parallelism: 3, completions: 2, ", "")
        + &job("queue", "parallelism: 2, ", "")
        + &job("paused", "suspend: true, ", "")
        + &job("done", "", "status: {succeeded: 1, conditions: [{type: Complete, status: 'True'}]}\n");
    check(
        "pods labels",
        &yaml,
        "default/once-0 127.0.1.1 of once
         default/queue-0 127.0.1.4 of queue
         default/queue-1 127.0.1.5 of queue
         default/wide-0 127.0.1.2 of wide
         default/wide-1 127.0.1.3 of wide
         once-0 batch.kubernetes.io/job-name=once job-name=once
         queue-0 batch.kubernetes.io/job-name=queue job-name=queue
         queue-1 batch.kubernetes.io/job-name=queue job-name=queue
         wide-0 batch.kubernetes.io/job-name=wide job-name=wide
         wide-1 batch.kubernetes.io/job-name=wide job-name=wide",
    );
}

/// A Deployment with its ReplicaSets and Pods, as `kubectl get -o yaml` prints them.
pub(crate) fn cluster_dump(replicas: u32) -> String {
    let mut yaml = app("a", replicas).replace("kind: Deployment", "kind: Deployment\nstatus: {readyReplicas: 2}");
    for (set, replicas) in [("a-7d9f", 2), ("a-6c8e", 0)] {
        yaml += &format!(
            "apiVersion: apps/v1\nkind: ReplicaSet\nmetadata: {{name: {set}, ownerReferences: [{{kind: Deployment, name: a, controller: true}}]}}\n\
             spec: {{replicas: {replicas}, selector: {{matchLabels: {{app: a}}}}, template: {{metadata: {{labels: {{app: a}}}}, spec: {{containers: [{{name: web}}]}}}}}}\n---\n"
        );
    }
    for (pod, address, more) in [
        ("a-7d9f-x1", "10.1.0.1", "phase: Running"),
        ("a-7d9f-x2", "10.1.0.2", "phase: Running, conditions: [{type: Ready, status: 'False'}]"),
        ("a-7d9f-x3", "10.1.0.3", "phase: Failed"),
    ] {
        yaml += &format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {pod}, labels: {{app: a, version: v1, pod-template-hash: 7d9f}}, \
             ownerReferences: [{{kind: ReplicaSet, name: a-7d9f, controller: true}}]}}\n\
             spec: {{containers: [{{name: web, ports: [{{name: http, containerPort: 8080}}]}}]}}\nstatus: {{podIP: {address}, {more}}}\n---\n"
        );
    }
    yaml
}

#[test]
fn pods_of_a_cluster_dump_count_as_replicas_and_the_rest_is_made() {
    check(
        "pods endpoints findings",
        &cluster_dump(3),
        "default/a-2 127.0.1.3 of a
         default/a-7d9f-x1 127.0.1.1 of a
         default/a-7d9f-x2 127.0.1.2 of a not ready
         outbound|80||a.default.svc.cluster.local a-7d9f-x1=127.0.1.1:8080 a-2=127.0.1.3:8080
         warning [OUT0306] Pod default/a-7d9f-x2 f.yaml:40:18: not ready, as its status says: Ready is False; it gets no traffic (remove `status` to simulate it as ready)",
    );
}

#[test]
fn pods_of_a_cluster_dump_beyond_the_replicas_stay_out() {
    check(
        "pods all-findings",
        &cluster_dump(1),
        "default/a-7d9f-x1 127.0.1.1 of a
         info [OUT0301] Pod default/a-7d9f-x2 f.yaml:40:18: not simulated: Deployment default/a asks for 1 pod, which there are without this one",
    );
}

#[test]
fn a_replica_set_of_its_own_has_pods_and_one_of_a_deployment_elsewhere_keeps_its_name() {
    let yaml = "apiVersion: apps/v1
kind: ReplicaSet
metadata: {name: rs}
spec: {replicas: 2, selector: {matchLabels: {app: rs}}, template: {metadata: {labels: {app: rs}}, spec: {containers: [{name: c}]}}}
---
apiVersion: apps/v1
kind: ReplicaSet
metadata: {name: far-6c8e, ownerReferences: [{kind: Deployment, name: far, controller: true}]}
spec: {selector: {matchLabels: {app: far}}, template: {metadata: {labels: {app: far, pod-template-hash: 6c8e}}, spec: {containers: [{name: c}]}}}
";
    check(
        "pods facts",
        yaml,
        "default/far-6c8e-0 127.0.1.3 of far
         default/rs-0 127.0.1.1 of rs
         default/rs-1 127.0.1.2 of rs
         far-6c8e-0 default/far app=far version=unknown far-6c8e-0 spiffe://cluster.local/ns/default/sa/default
         rs-0 default/rs app=rs version=unknown rs-0 spiffe://cluster.local/ns/default/sa/default
         rs-1 default/rs app=rs version=unknown rs-1 spiffe://cluster.local/ns/default/sa/default",
    );
}

#[test]
fn a_pod_by_itself_is_simulated_at_an_address_of_its_own_unless_it_is_over() {
    let pod = |name: &str, meta: &str, status: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}{meta}}}\nspec: {{nodeName: n1, containers: [{{name: c, ports: [{{containerPort: 80}}]}}]}}\nstatus: {{{status}}}\n---\n"
        )
    };
    let yaml = pod("a", "", "podIP: 10.9.9.9")
        + &pod("b", "", "phase: Succeeded")
        + &pod("c", ", deletionTimestamp: '2026-01-01T00:00:00Z'", "phase: Running")
        + &pod("d", "", "phase: Pending")
        + &pod("e", ", ownerReferences: [{kind: StatefulSet, name: elsewhere, controller: true}]", "phase: Running");
    check(
        "pods findings",
        &yaml,
        "default/a 127.0.1.1
         default/d 127.0.1.2 not ready
         default/e 127.0.1.3 of elsewhere
         warning [OUT0306] Pod default/d f.yaml:21:18: not ready, as its status says: phase Pending; it gets no traffic (remove `status` to simulate it as ready)",
    );
}

#[test]
fn two_workloads_of_one_name_have_pods_of_two_names() {
    let yaml = app("a", 1)
        + "apiVersion: apps/v1
kind: StatefulSet
metadata: {name: a}
spec: {selector: {matchLabels: {app: s}}, template: {metadata: {labels: {app: s}}, spec: {containers: [{name: c}]}}}
---
apiVersion: v1
kind: Pod
metadata: {name: b-0}
spec: {containers: [{name: c}]}
---
" + &app("b", 1);
    check(
        "pods",
        &yaml,
        "default/a-0 127.0.1.2 of a
         default/a-statefulset-0 127.0.1.4 of a
         default/b-0 127.0.1.1
         default/b-deployment-0 127.0.1.3 of b",
    );
}

#[test]
fn a_slip_of_the_pen_does_not_start_a_million_pods() {
    let found = crate::dump("pods findings", &(app("a", 4_000_000_000) + &app("b", 1)));
    let lines: Vec<&str> = found.lines().collect();
    assert_eq!(lines.len(), 2_000 + 3, "{:?}", &lines[1_990..]);
    assert_eq!(
        lines[2_000..],
        [
            "warning [OUT0309] Deployment default/a f.yaml:3:18: asks for 4000000000 pods, of which 2000 can be simulated (at most 2000 pods are simulated in all; lower `replicas`)",
            "warning [OUT0309] Deployment default/b f.yaml:23:18: asks for 1 pod, of which 0 can be simulated (at most 2000 pods are simulated in all; lower `replicas`)",
            "warning [OUT0308] Service default/b f.yaml:35:18: selects no pod of the input (app=b); requests to it get 503 (flag UH) (compare its selector with the labels of the workloads' templates in this namespace)",
        ]
    );
}

#[test]
fn a_workload_is_found_by_the_name_of_its_object_whatever_its_label_says() {
    let yaml = "apiVersion: v1
kind: Pod
metadata: {name: p-0, labels: {app: p, service.istio.io/workload-name: alias}, ownerReferences: [{kind: StatefulSet, name: p, controller: true}]}
spec: {containers: [{name: c}]}
";
    let stage = Simulation::new(0).stage(&load_text("f.yaml", yaml).0);
    assert_eq!((&*stage.pods[0].owner, &*stage.pods[0].facts.name), ("p", "alias"));
    for name in ["p", "alias", "p-0"] {
        let (snapshot, findings) = translate(&stage.resources, &View::of("default", name));
        assert_eq!((&*snapshot.workload.app, findings), ("p", Vec::new()), "{name}");
    }
}

#[test]
fn a_pod_without_containers_is_an_error_and_no_pod() {
    let yaml = app("a", 1).replace("\n      - {name: web, ports: [{name: http, containerPort: 8080}]}", " []");
    check(
        "pods endpoints findings",
        &yaml,
        "outbound|80||a.default.svc.cluster.local
         error [IST0106] Deployment default/a f.yaml:3:18: `containers` is missing or empty, so no pod is simulated (a pod has one container at least)
         warning [OUT0308] Service default/a f.yaml:14:18: the pod that it selects (app=a) takes no traffic; requests to it get 503 (flag UH) (see what is said of that pod)",
    );
}

//! What people stumble over: cases from the documentation and the issue trackers of the field.

use crate::Case;

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "the canary by cookie and by user, pseudo-headers, an empty match",
        flags: &[],
        yaml: r#"
@service app 80 v1
@service other 80 o1
@routes app app
  - match: [{headers: {cookie: {regex: "^(.*?;)?(user=jason)(;.*)?$"}}}]
    directResponse: {status: 201}
  - match: [{headers: {end-user: {exact: jason}, user-agent: {regex: ".*Chrome.*"}}}]
    directResponse: {status: 202}
  - match: [{headers: {":authority": {prefix: app.default}, ":method": {exact: PUT}}}]
    directResponse: {status: 203}
  - match: [{}]
    directResponse: {status: 207}
"#,
        requests: "
            GET app/ | cookie: a=b;user=jason;c=d => 201
            GET app/ | cookie: user=jason => 201
            GET app/ | cookie: user=jasons => 207
            GET app/ | end-user: jason | user-agent: x Chrome y => 202
            GET app/ | end-user: jason => 207
            PUT app.default/ | content-length: 0 => 203
            GET app/other => 207
        ",
    },
    Case {
        name: "a destination without port takes the only port, else the port asked for",
        flags: &[],
        yaml: r#"
@service app 80 v1
@service single 9090 s1
---
apiVersion: v1
kind: Service
metadata: {name: several}
spec: {selector: {app: single}, ports: [{name: http, port: 80, targetPort: 8081}, {name: http-b, port: 8888, targetPort: 8082}]}
@routes app app
  - match: [{uri: {prefix: /single}}]
    route: [{destination: {host: single}}]
  - match: [{uri: {prefix: /several}}]
    route: [{destination: {host: several}}]
  - match: [{uri: {prefix: /named}}]
    route: [{destination: {host: several, port: {number: 8888}}}]
"#,
        requests: "
            GET app/single => 200 | httpPort=8080
            GET app/several => 200 | httpPort=8081
            GET app/named => 200 | httpPort=8082
        ",
    },
    Case {
        name: "mesh-wide DestinationRules: *.local of the root namespace, and what beats it",
        flags: &[],
        yaml: r#"
@service app 80 v1 v1
@service mine 80 v1 v1 v1 v1
@rule istio-system/all *.local
  trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}
@rule mine mine
  trafficPolicy: {loadBalancer: {consistentHash: {useSourceIp: true}}}
"#,
        requests: "
            20*pod GET app/ => app-0=10 | app-1=10
            sticky GET mine/ | x: # => 1
        ",
    },
    Case {
        name: "a DestinationRule that is not exported, and one for other workloads",
        flags: &["--workload", "shop/web-0"],
        yaml: r#"
@service shop/web 80 w1
@service app 80 v1 v2
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: hidden, namespace: default}
spec: {host: app, exportTo: ["."], subsets: [{name: s, labels: {version: v1}}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: others, namespace: shop}
spec: {host: app.default.svc.cluster.local, workloadSelector: {matchLabels: {app: nobody}}, subsets: [{name: s, labels: {version: v1}}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: selected, namespace: shop}
spec: {host: app.default.svc.cluster.local, workloadSelector: {matchLabels: {app: web}}, subsets: [{name: t, labels: {version: v2}}]}
@routes shop/app app.default.svc.cluster.local
  - match: [{uri: {prefix: /t}}]
    route: [{destination: {host: app.default.svc.cluster.local, subset: t}}]
  - route: [{destination: {host: app.default.svc.cluster.local, subset: s}}]
"#,
        requests: "
            GET app.default/ => 503 | flag=NC
            GET app.default/t => 200 | version=v2
        ",
    },
    Case {
        name: "a delegate with hosts, of two levels, or with a match outside the root's",
        flags: &[],
        yaml: r#"
@service app 80 v1
@routes root app
  - match: [{uri: {prefix: /hosts}}]
    delegate: {name: with-hosts}
  - match: [{uri: {prefix: /two}}]
    delegate: {name: two}
  - match: [{uri: {prefix: /ok}}]
    rewrite: {uri: /new}
    headers: {request: {set: {x-root: "1"}}}
    delegate: {name: ok}
  - directResponse: {status: 207}
@routes with-hosts elsewhere.example.com
  - directResponse: {status: 500}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: two, namespace: default}
spec: {http: [{delegate: {name: ok}}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: ok, namespace: default}
spec:
  http:
  - match: [{uri: {prefix: /ok/a}, method: {exact: GET}}]
    headers: {request: {set: {x-leaf: "1"}}}
    route: [{destination: {host: app}}]
  - route: [{destination: {host: app}}]
"#,
        requests: "
            GET app/hosts => 207
            GET app/two => 207
            GET app/ok/a/b => 200 | >x-leaf=1 | !>x-root | path=/new/b
            GET app/ok/b => 200 | !>x-leaf | >x-root=1
            says with-hosts
        ",
    },
    Case {
        name: "every destination has its own header operations",
        flags: &[],
        yaml: r#"
@service app 80 v1 v2
@rule app app
  subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]
@routes app app
  - match: [{uri: {prefix: /1}}]
    route:
    - {destination: {host: app, subset: v1}, weight: 100, headers: {response: {set: {x-from: one}}, request: {add: {x-to: one}}}}
    - {destination: {host: app, subset: v2}, weight: 0, headers: {response: {set: {x-from: two}}}}
  - route:
    - {destination: {host: app, subset: v2}, headers: {response: {set: {x-from: two}}, request: {set: {x-to: two}}}}
"#,
        requests: "
            GET app/1 => 200 | <x-from=one | >x-to=one
            GET app/2 | x-to: client => 200 | <x-from=two | >x-to=two
        ",
    },
    Case {
        name: "what may not be: * and addresses on the mesh, two actions, weights without sum, a subset twice",
        flags: &[],
        yaml: r#"
@service app 80 v1
@routes star *
  - directResponse: {status: 500}
@routes address 10.1.2.3
  - directResponse: {status: 500}
@routes zero zero.example.com
  - route: [{destination: {host: app}, weight: 0}, {destination: {host: app}, weight: 0}]
@routes two two.example.com
  - route: [{destination: {host: app}}]
    redirect: {uri: /x}
@routes negative negative.example.com
  - route: [{destination: {host: app}, weight: -1}]
@rule twice app
  subsets: [{name: a, labels: {version: v1}}, {name: a, labels: {version: v2}}]
"#,
        requests: "
            GET app/ => 200
            GET zero.example.com/ => 404
            GET two.example.com/ => 404
            GET unknown.example.com/ => 404
            says VirtualService default/star
            says VirtualService default/address
            says VirtualService default/zero
            says VirtualService default/two
            says VirtualService default/negative
            says DestinationRule default/twice
        ",
    },
    Case {
        name: "TrafficSplit: a backend that does not exist, all weights 0, a VirtualService leading to a split root",
        flags: &[],
        yaml: r#"
@service app 80 v0
@service app-v1 80 v1
@service none 80 n0
@service none-v1 80 n1
---
apiVersion: split.smi-spec.io/v1alpha4
kind: TrafficSplit
metadata: {name: app, namespace: default}
spec: {service: app, backends: [{service: app-v1, weight: 80}, {service: missing, weight: 20}]}
---
apiVersion: split.smi-spec.io/v1alpha4
kind: TrafficSplit
metadata: {name: none, namespace: default}
spec: {service: none, backends: [{service: none-v1, weight: 0}]}
@routes front front.example.com
  - route: [{destination: {host: app}}]
"#,
        requests: "
            100*version GET app/ => v1=80 | 503 NC=20
            GET front.example.com/ => 200 | version=v0
            says missing
        ",
    },
    Case {
        name: "mesh defaults: what is exported, and to whom",
        flags: &["--workload", "shop/web-0"],
        yaml: r#"
@service shop/web 80 w1
@service app 80 v1
---
apiVersion: v1
kind: Service
metadata: {name: shown, namespace: default, annotations: {networking.istio.io/exportTo: "*"}}
spec: {selector: {app: app}, ports: [{name: http, port: 80, targetPort: 8080}]}
@routes shop/own app.shop
  - directResponse: {status: 201}
@routes foreign *.foreign.example.com
  - directResponse: {status: 201}
@mesh {defaultServiceExportTo: ["."], defaultVirtualServiceExportTo: ["."]}
"#,
        requests: "
            GET web/ => 200
            GET app.default/ => 404
            GET shown.default/ => 200
            GET app.shop/ => 201
            GET a.foreign.example.com/ => 404
        ",
    },
    Case {
        name: "the cluster domain is a setting",
        flags: &[],
        yaml: r#"
@service app 80 v1
@routes app app
  - match: [{uri: {prefix: /d}}]
    directResponse: {status: 201}
  - route: [{destination: {host: app.default.svc.cluster.local}}]
"#,
        requests: "
            GET app.default.svc.cluster.local/ => 200
            GET app.default.svc.example.org/ => 404
        ",
    },
    Case {
        name: "a ServiceEntry's addresses, and names that differ in case",
        flags: &[],
        yaml: r#"
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: vip, namespace: default}
spec:
  hosts: [VIP.Example.com]
  addresses: [240.240.1.1]
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP}]
  endpoints: [{address: 127.0.0.100, ports: {http: 8080}}]
"#,
        requests: "
            GET vip.example.com/ => 200
            GET 240.240.1.1/ => 200
        ",
    },
    Case {
        name: "protocols: a port that is not HTTP is no HTTP host; grpc, http2 and appProtocol are",
        flags: &[],
        yaml: r#"
apiVersion: v1
kind: Service
metadata: {name: app}
spec:
  selector: {app: app}
  ports:
  - {name: tcp-x, port: 81, targetPort: 8080}
  - {name: http-x, port: 82, targetPort: 8080}
  - {name: raw, port: 83, targetPort: 8080, appProtocol: http}
  - {name: http-y, port: 84, targetPort: 8080, appProtocol: tcp}
  - {name: unnamed, port: 85, targetPort: 8080}
  - {name: mysql, port: 3306, targetPort: 8080}
---
apiVersion: v1
kind: Pod
metadata: {name: app-0, labels: {app: app}}
spec: {containers: [{name: a, image: a}]}
status: {podIP: 127.0.0.100, phase: Running, conditions: [{type: Ready, status: "True"}]}
"#,
        requests: "
            GET app:81/ => 404
            GET app:82/ => 200
            GET app:83/ => 200
            GET app:84/ => 404
            GET app:85/ => 200
            GET app:3306/ => 404
        ",
    },
    Case {
        name: "LEAST_CONN is LEAST_REQUEST: it goes where less is under way",
        flags: &[],
        yaml: r#"
@service app 80 v1 v1
@rule app app
  trafficPolicy: {loadBalancer: {simple: LEAST_CONN}}
"#,
        requests: "
            idle GET app/ => 20
        ",
    },
    Case {
        name: "without a DestinationRule it goes where less is under way",
        flags: &[],
        yaml: "@service app 80 v1 v1\n",
        requests: "
            idle GET app/ => 20
        ",
    },
    Case {
        name: "a path has one spelling, for the match and for the backend",
        flags: &[],
        yaml: r#"
@service app 80 v1
@routes app app
  - match: [{uri: {prefix: /secret}}]
    directResponse: {status: 403}
  - route: [{destination: {host: app}}]
"#,
        requests: "
            GET app/a/../secret => 403
            GET app/a/%2e%2e/secret => 403
            GET app/./secret => 403
            GET app/%73ecret => 403
            GET app/%00 => 400
            GET app/%2e%2e/x => 200 | path=/x
            GET app/x//secret => 200 | path=/x//secret
        ",
    },
];

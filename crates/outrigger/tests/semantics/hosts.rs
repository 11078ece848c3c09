//! Which hosts a request may name, and where it goes then: services, ServiceEntries, aliases, the unknown.

use crate::Case;

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "every way to write a service's name",
        flags: &[],
        yaml: r#"
@service reviews 9080 v1
@service shop/cart 80 v2
---
apiVersion: v1
kind: Service
metadata: {name: multi, namespace: default}
spec:
  clusterIP: 10.96.0.7
  selector: {app: reviews}
  ports: [{name: http, port: 80, targetPort: 8081}, {name: http-alt, port: 8080, targetPort: 8081}]
"#,
        requests: "
            GET reviews:9080/ => 200 | service=reviews
            GET reviews.default:9080/ => 200 | service=reviews
            GET reviews.default.svc:9080/ => 200 | service=reviews
            GET reviews.default.svc.cluster.local:9080/ => 200 | service=reviews
            GET reviews.default.svc.cluster.local.:9080/ => 200 | service=reviews
            GET REVIEWS.Default.SVC.cluster.local:9080/ => 200 | service=reviews
            GET reviews/ => 200 | service=reviews
            GET reviews:9081/ => 404 | flag=NR
            GET http://reviews:9080/x => 200 | service=reviews | path=/x
            GET cart.shop/ => 200 | service=cart
            GET cart.shop.svc.cluster.local:80/ => 200 | service=cart
            GET 10.96.0.7/ => 200
            GET 10.96.0.7:8080/ => 200
            GET multi:8080/ => 200
            GET nowhere/ => 404 | flag=NR | body~no route for this host
            GET nowhere.default.svc.cluster.local/ => 404 | flag=NR
        ",
    },
    Case {
        name: "a client sees the short names of its own namespace",
        flags: &["--workload", "shop/web"],
        yaml: r#"
@service app 80 v1
@service shop/app 80 v2
@service shop/web 80 w
"#,
        requests: "
            GET app/ => 200 | version=v2
            GET app.default/ => 200 | version=v1
            GET app.shop/ => 200 | version=v2
        ",
    },
    Case {
        name: "REGISTRY_ONLY answers 502 for what it does not know",
        flags: &[],
        yaml: r#"
@service app 80 v1
@mesh outboundTrafficPolicy: {mode: REGISTRY_ONLY}
"#,
        requests: "
            GET app/ => 200
            GET nowhere.example.com/ => 502
            GET http://nowhere.example.com/ => 502
            count istio_requests_total destination_service_name=BlackHoleCluster => 2
        ",
    },
    Case {
        name: "ServiceEntry: static, wildcard, none, several hosts; DestinationRule and VirtualService on them",
        flags: &[],
        yaml: r#"
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: static, namespace: default}
spec:
  hosts: [api.example.com, api2.example.com]
  location: MESH_EXTERNAL
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8080}, {number: 8888, name: http-alt, protocol: HTTP}]
  endpoints:
  - {address: 127.0.0.100, labels: {version: v1}}
  - {address: 127.0.0.101, labels: {version: v2}, ports: {http: 9090}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: wild, namespace: default}
spec:
  hosts: ["*.wild.example.com"]
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP}]
  endpoints: [{address: 127.0.0.102, ports: {http: 8080}, labels: {version: wild}}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: exact, namespace: default}
spec:
  hosts: [exact.wild.example.com]
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP}]
  endpoints: [{address: 127.0.0.103, ports: {http: 8080}, labels: {version: exact}}]
@rule api api.example.com
  subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]
@routes api api.example.com
  - match: [{uri: {prefix: /v2}}]
    route: [{destination: {host: api.example.com, subset: v2}}]
  - route: [{destination: {host: api.example.com, subset: v1}}]
"#,
        requests: "
            10*version GET api.example.com/ => v1=10
            10*version GET api.example.com/v2 => v2=10
            20*version GET api2.example.com/ => v1=1..19 | v2=1..19
            GET api2.example.com:8888/ => 200
            GET api2.example.com:81/ => 404
            GET a.wild.example.com/ => 200 | version=wild
            GET a.b.wild.example.com/ => 200 | version=wild
            GET A.Wild.Example.COM/ => 200 | version=wild
            GET wild.example.com/ => 404
            GET exact.wild.example.com/ => 200 | version=exact
            count istio_requests_total destination_service=api2.example.com => 21
        ",
    },
    Case {
        name: "wildcard hosts of VirtualServices: exact, then the longest suffix",
        flags: &[],
        yaml: r#"
@service app 80 v1
@routes suffix *.example.com
  - directResponse: {status: 202}
@routes longer *.a.example.com
  - directResponse: {status: 203}
@routes exact x.a.example.com
  - directResponse: {status: 206}
"#,
        requests: "
            GET x.a.example.com/ => 206
            GET x.a.example.com:80/ => 206
            GET x.a.example.com:8080/ => 404 | flag=NR
            GET y.a.example.com/ => 203
            GET z.y.a.example.com/ => 203
            GET a.example.com/ => 202
            GET example.com/ => 404
        ",
    },
    Case {
        name: "ExternalName stands for another service",
        flags: &[],
        yaml: r#"
@service app 80 v1
---
apiVersion: v1
kind: Service
metadata: {name: alias, namespace: default}
spec: {type: ExternalName, externalName: app.default.svc.cluster.local, ports: [{name: http, port: 80}]}
@rule app app
  subsets: [{name: v1, labels: {version: v1}}]
@routes app app
  - match: [{uri: {prefix: /known}}]
    route: [{destination: {host: app, subset: v1}}]
  - directResponse: {status: 201}
"#,
        requests: "
            GET app/known => 200
            GET app/ => 201
            GET alias/known => 200 | service=app
        ",
    },
    Case {
        name: "a VirtualService for a host nobody else knows routes to services",
        flags: &[],
        yaml: r#"
@service shop/app 80 v1
@service other 80 v2
@routes shop/front front.example.com,short
  - match: [{uri: {prefix: /other}}]
    route: [{destination: {host: other.default.svc.cluster.local}}]
  - route: [{destination: {host: app}}]
"#,
        requests: "
            GET front.example.com/ => 200 | version=v1 | host=front.example.com
            GET front.example.com/other => 200 | version=v2
            GET short.shop/ => 200 | version=v1
            GET short/ => 404
        ",
    },
];

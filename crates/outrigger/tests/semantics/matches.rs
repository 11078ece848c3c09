//! `http[].match` of a VirtualService: every kind of condition, AND within a block, OR between blocks, order.

use crate::Case;

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "uri: exact, prefix, regex; first match wins; no match is 404 NR",
        flags: &[],
        yaml: r#"
@service app 80 v1
@routes app app
  - match: [{uri: {exact: /exact}}]
    directResponse: {status: 201}
  - match: [{uri: {prefix: /foo}}]
    directResponse: {status: 202}
  - match: [{uri: {regex: "/re/[0-9]+"}}]
    directResponse: {status: 203}
  - match: [{uri: {prefix: /re/1}}]
    directResponse: {status: 206}
  - match: [{uri: {regex: "/alt|/other"}}]
    directResponse: {status: 207}
  - match: [{uri: {exact: /Case}, ignoreUriCase: true}, {uri: {prefix: /PRE/}, ignoreUriCase: true}]
    directResponse: {status: 208}
"#,
        requests: "
            GET app/exact => 201
            GET app/exact?q=1 => 201
            GET app/exact/ => 404 | flag=NR
            GET app/Exact => 404
            GET app/foo => 202
            GET app/foobar => 202
            GET app/foo/bar => 202
            GET app/fo => 404
            GET app/re/12 => 203
            GET app/re/12?x=/y => 203
            GET app/re/1x => 206
            GET app/re/x1 => 404
            GET app/x/re/12 => 404
            GET app/alt => 207
            GET app/other => 207
            GET app/alt2 => 404
            GET app/x/other => 404
            GET app/cAsE => 208
            GET app/case/ => 404
            GET app/pre/x => 208
            GET app/pre => 404
            GET app/ => 404 | flag=NR | body~no route matched
        ",
    },
    Case {
        name: "method, scheme, authority, port",
        flags: &[],
        yaml: r#"
@service app 80 v1
@service app2 81 v1
@routes app app,app2
  - match: [{method: {exact: POST}}]
    directResponse: {status: 201}
  - match: [{method: {regex: "PUT|PATCH"}}]
    directResponse: {status: 202}
  - match: [{scheme: {exact: https}}]
    directResponse: {status: 500}
  - match: [{authority: {exact: app.default}}]
    directResponse: {status: 203}
  - match: [{authority: {prefix: "app.default.svc.c"}}]
    directResponse: {status: 206}
  - match: [{port: 81}]
    directResponse: {status: 207}
  - match: [{scheme: {exact: http}}]
    directResponse: {status: 208}
"#,
        requests: "
            POST app/ => 201
            PUT app/ => 202
            PATCH app/ => 202
            GET app/ => 208
            GET app.default/ => 203
            GET APP.Default/ => 203
            GET app.default:80/ => 208
            GET app.default.svc.cluster.local/ => 206
            GET app2:81/ => 207
            GET app2/ => 207
        ",
    },
    Case {
        name: "headers and withoutHeaders",
        flags: &[],
        yaml: r#"
@service app 80 v1
@routes app app
  - match: [{headers: {x-exact: {exact: one}}}]
    directResponse: {status: 201}
  - match: [{headers: {x-prefix: {prefix: ab}}}]
    directResponse: {status: 202}
  - match: [{headers: {x-re: {regex: "a+"}}}]
    directResponse: {status: 203}
  - match: [{headers: {x-there: {}}}]
    directResponse: {status: 206}
  - match: [{headers: {x-star: {regex: "*"}}}]
    directResponse: {status: 207}
  - match: [{uri: {prefix: /without/value}, withoutHeaders: {x-no: {exact: "1"}}}]
    directResponse: {status: 208}
  - match: [{uri: {prefix: /without/any}, withoutHeaders: {x-no: {}}}]
    directResponse: {status: 226}
  - match: [{uri: {prefix: /without/empty}, withoutHeaders: {x-no: {regex: ""}}}]
    directResponse: {status: 229}
  - match: [{headers: {X-Upper: {exact: V}}}]
    directResponse: {status: 230}
"#,
        requests: "
            GET app/ | X-Exact: one => 201
            GET app/ | x-exact: One => 404
            GET app/ | x-exact: one2 => 404
            GET app/ | x-prefix: abc => 202
            GET app/ | x-prefix: xab => 404
            GET app/ | x-re: aaa => 203
            GET app/ | x-re: aab => 404
            GET app/ | x-there: => 206
            GET app/ | x-there: x => 206
            GET app/ | x-star: anything => 207
            GET app/without/value => 208
            GET app/without/value | x-no: 2 => 208
            GET app/without/value | x-no: 1 => 404
            GET app/without/any => 226
            GET app/without/any | x-no: 1 => 404
            GET app/without/empty | x-no: 1 => 229
            GET app/without/empty => 404
            GET app/ | x-exact: a | x-exact: b => 404
        ",
    },
    Case {
        name: "queryParams",
        flags: &[],
        yaml: r#"
@service app 80 v1
@routes app app
  - match: [{queryParams: {v: {exact: "1"}}}]
    directResponse: {status: 201}
  - match: [{queryParams: {bare: {exact: ""}}}]
    directResponse: {status: 202}
  - match: [{queryParams: {re: {regex: "[a-c]+"}}}]
    directResponse: {status: 203}
  - match: [{queryParams: {p: {prefix: x}, q: {exact: z}}}]
    directResponse: {status: 206}
"#,
        requests: "
            GET app/?v=1 => 201
            GET app/?a=b&v=1&c => 201
            GET app/?v=12 => 404
            GET app/?V=1 => 404
            GET app/?bare => 202
            GET app/?bare= => 202
            GET app/?x=1&bare => 202
            GET app/?bare=1 => 404
            GET app/?re=abc => 203
            GET app/?re=abcd => 404
            GET app/?p=xx&q=z => 206
            GET app/?p=xx => 404
            GET app/v=1 => 404
        ",
    },
    Case {
        name: "AND within a block, OR between blocks, a rule without match ends the list",
        flags: &[],
        yaml: r#"
@service app 80 v1
@routes app app
  - match:
    - {uri: {prefix: /a}, method: {exact: GET}, headers: {x-a: {exact: "1"}}, queryParams: {q: {exact: "1"}}}
    - {uri: {prefix: /b}, headers: {x-b: {exact: "1"}, x-c: {exact: "1"}}}
    directResponse: {status: 201}
  - directResponse: {status: 202}
  - match: [{uri: {prefix: /dead}}]
    directResponse: {status: 203}
"#,
        requests: "
            GET app/a?q=1 | x-a: 1 => 201
            POST app/a?q=1 | x-a: 1 | content-length: 0 => 202
            GET app/a | x-a: 1 => 202
            GET app/a?q=1 => 202
            GET app/b | x-b: 1 | x-c: 1 => 201
            GET app/b | x-b: 1 => 202
            GET app/dead => 202
        ",
    },
    Case {
        name: "sourceNamespace and sourceLabels of a workload",
        flags: &["--workload", "shop/web"],
        yaml: SOURCES,
        requests: "
            GET app.default/ns => 201
            GET app.default/labels => 202
            GET app.default/labels2 => 404
            GET app.default/other => 404
        ",
    },
    Case {
        name: "an anonymous client matches no source; a VirtualService of which nothing is left does not exist for the client",
        flags: &[],
        yaml: SOURCES,
        requests: "
            GET app/ns => 200
            GET app/labels => 200
            GET app/other => 200
        ",
    },
    Case {
        name: "gateways: only mesh counts, in rule and in match",
        flags: &[],
        yaml: r#"
@service app 80 v1
@service edge 80 v1
@service both 80 v1
---
apiVersion: networking.istio.io/v1beta1
kind: VirtualService
metadata: {name: edge, namespace: default}
spec:
  hosts: [edge]
  gateways: [istio-system/ingress]
  http: [{directResponse: {status: 500}}]
---
apiVersion: networking.istio.io/v1alpha3
kind: VirtualService
metadata: {name: both, namespace: default}
spec:
  hosts: [both]
  gateways: [ingress, mesh]
  http:
  - match: [{gateways: [ingress]}]
    directResponse: {status: 500}
  - match: [{gateways: [mesh], uri: {prefix: /m}}]
    directResponse: {status: 201}
  - directResponse: {status: 202}
"#,
        requests: "
            GET edge/ => 200 | service=edge
            GET both/m => 201
            GET both/ => 202
        ",
    },
    Case {
        name: "delegation: the root's match and the delegate's both hold",
        flags: &[],
        yaml: r#"
@service app 80 v1
@routes root app
  - match: [{uri: {prefix: /shop}}]
    delegate: {name: shop, namespace: team}
  - match: [{uri: {prefix: /gone}}]
    delegate: {name: nowhere}
  - directResponse: {status: 202}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: shop, namespace: team}
spec:
  http:
  - match: [{uri: {prefix: /shop/cart}, headers: {x-a: {exact: "1"}}}]
    directResponse: {status: 203}
  - match: [{uri: {prefix: /elsewhere}}]
    directResponse: {status: 500}
  - match: [{uri: {prefix: /shop/app}}]
    route: [{destination: {host: app.default.svc.cluster.local}}]
"#,
        requests: "
            GET app/shop/cart | x-a: 1 => 203
            GET app/shop/cart => 202
            GET app/shop/app => 200 | service=app
            GET app/elsewhere => 202
            GET app/x => 202
        ",
    },
];

const SOURCES: &str = r#"
@service app 80 v1
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web, tier: front}}
    spec: {containers: [{name: web, image: web}]}
@routes app app
  - match: [{uri: {prefix: /ns}, sourceNamespace: shop}]
    directResponse: {status: 201}
  - match: [{uri: {exact: /labels}, sourceLabels: {app: web, tier: front}}]
    directResponse: {status: 202}
  - match: [{uri: {exact: /labels2}, sourceLabels: {app: web, tier: back}}]
    directResponse: {status: 500}
  - match: [{uri: {prefix: /other}, sourceNamespace: default}]
    directResponse: {status: 500}
"#;

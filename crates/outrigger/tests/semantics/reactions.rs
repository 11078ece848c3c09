//! What a matched rule does: header operations, rewrites, redirects, direct responses, CORS.

use crate::Case;

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "header operations at both levels",
        flags: &[],
        yaml: r#"
@service app 80 v1
@routes app app
  - match: [{uri: {prefix: /both}}]
    headers:
      request:
        set: {x-route: set, x-same: route, x-in: route}
        add: {x-add: route}
        remove: [x-gone]
      response:
        set: {x-r-route: set, x-r-same: route, server: mine}
        add: {x-r-add: route}
        remove: [x-r-gone]
    route:
    - destination: {host: app}
      headers:
        request:
          set: {x-dest: set, x-same: dest}
          add: {x-add: dest}
          remove: [x-gone-too]
        response:
          set: {x-r-dest: set, x-r-same: dest}
          add: {x-r-add: dest}
          remove: [x-r-gone-too]
  - match: [{uri: {prefix: /host/route}}]
    headers: {request: {set: {Host: route.example.com}}}
    route: [{destination: {host: app}, headers: {request: {set: {":authority": dest.example.com}}}}]
  - match: [{uri: {prefix: /host/dest}}]
    route: [{destination: {host: app}, headers: {request: {set: {host: dest.example.com}}}}]
  - match: [{uri: {prefix: /pseudo}}]
    headers: {request: {set: {":path": /x, ":method": PUT}, remove: [":path", host]}}
    route: [{destination: {host: app}}]
  - match: [{uri: {prefix: /setadd}}]
    headers: {request: {set: {x-a: set}, add: {x-a: add}}}
    route: [{destination: {host: app}}]
"#,
        requests: "
            GET app/both | x-in: client | x-add: client | x-gone: 1 | x-gone-too: 1 | x-stays: 1 => 200 | >x-route=set | >x-dest=set | >x-same=route | >x-in=route | >x-add=client,dest,route | !>x-gone | !>x-gone-too | >x-stays=1
            GET app/both | x-echo-set-header: x-r-gone=1 => 200 | !<x-r-gone | <x-r-route=set | <x-r-dest=set | <x-r-same=route | <x-r-add=dest,route | <server=mine
            GET app/both | x-echo-set-header: x-r-gone-too=1 => 200 | !<x-r-gone-too
            GET app/both | x-echo-set-header: x-r-stays=1 => 200 | <x-r-stays=1
            GET app/host/route => 200 | host=route.example.com
            GET app/host/dest => 200 | host=dest.example.com
            GET app/pseudo => 200 | path=/pseudo | method=GET | host=app
            GET app/setadd => 200 | >x-a=set
            GET app/setadd | x-a: in => 200 | >x-a=set
        ",
    },
    Case {
        name: "rewrites keep the query and know prefix from whole",
        flags: &[],
        yaml: r#"
@service app 80 v1
@routes app app
  - match: [{uri: {prefix: /v1/}}]
    rewrite: {uri: /v2/}
    route: [{destination: {host: app}}]
  - match: [{uri: {prefix: /strip/}}]
    rewrite: {uri: /}
    route: [{destination: {host: app}}]
  - match: [{uri: {prefix: /slash}}]
    rewrite: {uri: /}
    route: [{destination: {host: app}}]
  - match: [{uri: {prefix: /Ci}, ignoreUriCase: true}]
    rewrite: {uri: /new}
    route: [{destination: {host: app}}]
  - match: [{uri: {exact: /exact}}]
    rewrite: {uri: /whole}
    route: [{destination: {host: app}}]
  - match: [{uri: {regex: "/re/.*"}}]
    rewrite: {uri: /replaced}
    route: [{destination: {host: app}}]
  - match: [{uri: {prefix: /regex}}]
    rewrite: {uriRegexRewrite: {match: "^/regex/([^/]+)/(.*)$", rewrite: "/out/\\2/\\1"}}
    route: [{destination: {host: app}}]
  - match: [{uri: {prefix: /auth}}]
    rewrite: {authority: other.example.com}
    route: [{destination: {host: app}}]
  - match: [{uri: {prefix: /two}}, {uri: {exact: /one}}]
    rewrite: {uri: /n, authority: n.example.com}
    route: [{destination: {host: app}}]
"#,
        requests: "
            GET app/v1/users?id=1&v1=/v1/ => 200 | path=/v2/users?id=1&v1=/v1/ | host=app
            GET app/strip/a => 200 | path=/a
            GET app/slash/a => 200 | path=//a
            GET app/slash => 200 | path=/
            GET app/cI/x => 200 | path=/new/x
            GET app/exact?q => 200 | path=/whole?q
            GET app/re/a/b?q=1 => 200 | path=/replaced?q=1
            GET app/regex/a/b/c?x=/regex/1/2 => 200 | path=/out/b/c/a?x=/regex/1/2
            GET app/regex/a => 200 | path=/regex/a
            GET app/auth => 200 | host=other.example.com | path=/auth
            GET app/two/x => 200 | path=/n/x | host=n.example.com
            GET app/one => 200 | path=/n
            GET http://app/v1/x?y => 200 | path=/v2/x?y | host=app
        ",
    },
    Case {
        name: "rewrite of a rule without match replaces the prefix / that it stands for",
        flags: &[],
        yaml: r#"
@service app 80 v1
@routes app app
  - rewrite: {uri: /all}
    route: [{destination: {host: app}}]
"#,
        requests: "
            GET app/ => 200 | path=/all
            GET app/x?q=1 => 200 | path=/allx?q=1
        ",
    },
    Case {
        name: "redirects",
        flags: &[],
        yaml: r#"
@service app 80 v1
@routes app app
  - match: [{uri: {exact: /uri}}]
    redirect: {uri: /new}
  - match: [{uri: {exact: /authority}}]
    redirect: {authority: new.example.com}
  - match: [{uri: {exact: /both}}]
    redirect: {uri: /new, authority: new.example.com, redirectCode: 302}
  - match: [{uri: {prefix: /scheme}}]
    redirect: {scheme: https, redirectCode: 308}
  - match: [{uri: {prefix: /port}}]
    redirect: {port: 8443, scheme: https, redirectCode: 307}
  - match: [{uri: {prefix: /derive/default}}]
    redirect: {derivePort: FROM_PROTOCOL_DEFAULT, redirectCode: 303}
  - match: [{uri: {prefix: /old/}}]
    redirect: {prefixRewrite: /new/}
"#,
        requests: "
            GET app/uri?q=1 => 301 | <location=http://app/new?q=1
            GET app:80/uri => 301 | <location=http://app/new
            GET app:8080/uri => 404
            GET app/authority?q=1 => 301 | <location=http://new.example.com/authority?q=1
            GET app/both => 302 | <location=http://new.example.com/new
            GET app/scheme/a?b => 308 | <location=https://app/scheme/a?b
            GET app:80/scheme/a => 308 | <location=https://app/scheme/a
            GET app/port/x => 307 | <location=https://app:8443/port/x
            GET app:80/derive/default => 303 | <location=http://app/derive/default
            GET app/old/x?q => 301 | <location=http://app/new/x?q
        ",
    },
    Case {
        name: "direct responses, with response headers of the rule",
        flags: &[],
        yaml: r#"
@service app 80 v1
@routes app app
  - match: [{uri: {prefix: /string}}]
    directResponse: {status: 418, body: {string: "tea: no\n"}}
    headers: {response: {set: {x-why: pot, content-type: text/x-tea}}}
  - match: [{uri: {prefix: /bytes}}]
    directResponse: {status: 503, body: {bytes: "aGVsbG8="}}
  - directResponse: {status: 204}
"#,
        requests: "
            GET app/string => 418 | body~tea: no | <x-why=pot | <content-type=text/x-tea
            HEAD app/string => 418 | body= | <content-length=8
            GET app/bytes => 503 | body=hello | flag=
            GET app/x => 204 | !<content-length
        ",
    },
    Case {
        name: "CORS: preflight, actual request, foreign origins",
        flags: &[],
        yaml: r#"
@service app 80 v1
@routes app app
  - match: [{uri: {prefix: /api}}]
    corsPolicy:
      allowOrigins: [{exact: "https://a.example.com"}, {regex: "https://[a-z]+\\.b\\.example\\.com"}, {prefix: "http://localhost"}]
      allowMethods: [GET, POST]
      allowHeaders: [x-one, x-two]
      exposeHeaders: [x-shown]
      maxAge: 1h30m
      allowCredentials: true
    route: [{destination: {host: app}}]
  - match: [{uri: {prefix: /ignore}}]
    corsPolicy:
      allowOrigins: [{exact: "https://a.example.com"}]
      allowMethods: [GET]
      unmatchedPreflights: IGNORE
    route: [{destination: {host: app}}]
  - match: [{uri: {prefix: /any}}]
    corsPolicy: {allowOrigins: [{exact: "*"}], allowMethods: ["*"]}
    route: [{destination: {host: app}}]
"#,
        requests: "
            OPTIONS app/api | origin: https://a.example.com | access-control-request-method: POST => 200 | <access-control-allow-origin=https://a.example.com | <access-control-allow-methods=GET,POST | <access-control-allow-headers=x-one,x-two | <access-control-max-age=5400 | <access-control-allow-credentials=true | body=
            OPTIONS app/api | origin: https://x.b.example.com | access-control-request-method: GET => 200 | <access-control-allow-origin=https://x.b.example.com | body=
            OPTIONS app/api | origin: http://localhost:3000 | access-control-request-method: GET => 200 | <access-control-allow-origin=http://localhost:3000 | body=
            OPTIONS app/api | origin: https://x.y.b.example.com | access-control-request-method: GET => 200 | service=app | !<access-control-allow-origin
            OPTIONS app/api | origin: https://evil.example.com | access-control-request-method: GET => 200 | service=app | !<access-control-allow-origin
            OPTIONS app/api | origin: https://a.example.com => 200 | service=app | <access-control-allow-origin=https://a.example.com
            GET app/api | origin: https://a.example.com => 200 | service=app | <access-control-allow-origin=https://a.example.com | <access-control-expose-headers=x-shown | <access-control-allow-credentials=true | !<access-control-allow-methods
            GET app/api | origin: https://evil.example.com => 200 | service=app | !<access-control-allow-origin
            GET app/api => 200 | service=app | !<access-control-allow-origin
            OPTIONS app/ignore | origin: https://evil.example.com | access-control-request-method: GET => 200 | body= | !<access-control-allow-origin
            OPTIONS app/ignore | origin: https://a.example.com | access-control-request-method: GET => 200 | <access-control-allow-origin=https://a.example.com | body=
            GET app/any | origin: https://what.ever => 200 | <access-control-allow-origin=https://what.ever
        ",
    },
    Case {
        name: "what every request carries, and what no client may claim",
        flags: &[],
        yaml: "@service app 80 v1\n",
        requests: "
            GET app/ => 200 | >x-request-id | >x-forwarded-proto=http | !>x-envoy-original-path | !>connection
            GET app/ | x-request-id: mine | x-forwarded-client-cert: URI=spiffe://evil | connection: x-hop | x-hop: 1 => 200 | !>x-forwarded-client-cert | !>x-hop
            GET app/ | te: trailers | keep-alive: 1 => 200 | !>keep-alive
            GET app/a%2Fb/../c?x=%20#f => 400
            GET app/a%2Fb//c?x=%20 => 200 | path=/a%2Fb//c?x=%20
        ",
    },
];

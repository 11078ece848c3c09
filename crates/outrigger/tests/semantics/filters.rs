//! What a rule does beside sending a request on: time limits and mirrors.

use crate::Case;

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "timeout is for the whole answer, and zero or none is no limit",
        flags: &[],
        yaml: r#"
@service app 80 v1
@routes app app
  - match: [{uri: {prefix: /limited}}]
    timeout: 1s
    route: [{destination: {host: app}}]
  - match: [{uri: {prefix: /zero}}]
    timeout: 0s
    route: [{destination: {host: app}}]
  - route: [{destination: {host: app}}]
"#,
        requests: "
            GET app/limited | x-echo-delay: 60s => 504 | flag=UT | body~upstream request timeout | body~outbound|80||app.default.svc.cluster.local
            POST app/limited | x-echo-delay: 60s => 504 | flag=UT
            GET app/limited => 200
            GET app/zero | x-echo-delay: 500ms => 200
            GET app/none | x-echo-delay: 500ms | x-envoy-upstream-rq-timeout-ms: 1 => 200
            count istio_requests_total response_flags=UT response_code=504 destination_service_name=app => 2
            count envoy_cluster_upstream_rq_timeout envoy_cluster_name=outbound|80||app.default.svc.cluster.local => 2
            count envoy_cluster_upstream_rq_per_try_timeout => 0
            count outrigger_proxy_replies_total details=response_timeout response_flags=UT => 2
        ",
    },
    Case {
        name: "perTryTimeout is for the head of an answer, and needs retries that are on",
        flags: &[],
        yaml: r#"
@service app 80 v1
@routes app app
  - match: [{uri: {prefix: /try}}]
    retries: {attempts: 1, perTryTimeout: 1s, retryOn: 5xx}
    route: [{destination: {host: app}}]
  - match: [{uri: {prefix: /both}}]
    timeout: 60s
    retries: {perTryTimeout: 1s}
    route: [{destination: {host: app}}]
  - match: [{uri: {prefix: /off}}]
    retries: {attempts: 0, perTryTimeout: 1s}
    route: [{destination: {host: app}}]
"#,
        requests: "
            GET app/try | x-echo-delay: 60s => 504 | flag=UT | body~upstream request timeout
            GET app/both | x-echo-delay: 60s => 504 | flag=UT
            GET app/try => 200
            GET app/off | x-echo-delay: 500ms => 200
            count envoy_cluster_upstream_rq_per_try_timeout envoy_cluster_name=outbound|80||app.default.svc.cluster.local => 3
            count envoy_cluster_upstream_rq_retry envoy_cluster_name=outbound|80||app.default.svc.cluster.local => 1
            count envoy_cluster_upstream_rq_timeout => 0
        ",
    },
    Case {
        name: "a mirror gets a copy of everything unless it is told a share",
        flags: &[],
        yaml: r#"
@service app 80 v1
@service all 80 v1
@service none 80 v1
@service one 80 v1
@service two 80 v1
@routes app app
  - match: [{uri: {prefix: /all}}]
    mirror: {host: all}
    route: [{destination: {host: app}}]
  - match: [{uri: {prefix: /hundred}}]
    mirror: {host: all, port: {number: 80}}
    mirrorPercentage: {value: 100}
    route: [{destination: {host: app}}]
  - match: [{uri: {prefix: /none}}]
    mirror: {host: none}
    mirrorPercentage: {value: 0}
    route: [{destination: {host: app}}]
  - match: [{uri: {prefix: /several}}]
    mirrors:
    - destination: {host: one}
    - destination: {host: two}
      percentage: {value: 100}
    - destination: {host: none}
      percentage: {value: 0}
    route: [{destination: {host: app}}]
"#,
        requests: "
            20*service GET app/all => app=20
            5*service GET app/hundred => app=5
            20*service GET app/none => app=20
            20*service GET app/several => app=20
            count outrigger_mirrored_requests_total service=all result=answered => 25
            count outrigger_mirrored_requests_total service=one result=answered => 20
            count outrigger_mirrored_requests_total service=two result=answered => 20
            count outrigger_mirrored_requests_total => 65
            count envoy_cluster_upstream_rq_total envoy_cluster_name=outbound|80||all.default.svc.cluster.local => 25
            count outrigger_endpoint_requests_total endpoint=one-0 => 20
            count outrigger_endpoint_requests_total endpoint=none-0 => 0
            count istio_requests_total => 65
            count istio_requests_total destination_service_name=app response_code=200 => 65
        ",
    },
    Case {
        name: "a mirror may be a subset, slow, failing or not there, and the client does not notice",
        flags: &[],
        yaml: r#"
@service app 80 v1 v2
@service empty 80
@rule app app
  subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]
@routes app app
  - match: [{uri: {prefix: /subset}}]
    mirror: {host: app, subset: v2}
    route: [{destination: {host: app, subset: v1}}]
  - match: [{uri: {prefix: /empty}}]
    mirror: {host: empty}
    route: [{destination: {host: app, subset: v1}}]
  - match: [{uri: {prefix: /missing}}]
    mirror: {host: nobody}
    route: [{destination: {host: app, subset: v1}}]
  - match: [{uri: {prefix: /limited}}]
    timeout: 1s
    mirror: {host: app, subset: v2}
    route: [{destination: {host: app, subset: v1}}]
"#,
        requests: "
            10*version GET app/subset => v1=10
            10*version GET app/subset | x-echo-status: 503;version=v2 => v1=10
            10*version GET app/subset | x-echo-abort: before;version=v2 => v1=10
            10*version GET app/subset | x-echo-delay: 60s;version=v2 => v1=10
            10*version GET app/limited | x-echo-delay: 60s;version=v2 => v1=10
            10*version GET app/empty => v1=10
            10*version GET app/missing => v1=10
            count outrigger_mirrored_requests_total subset=v2 result=answered => 20
            count outrigger_mirrored_requests_total subset=v2 result=broken => 10
            count outrigger_mirrored_requests_total subset=v2 result=timeout => 10
            count outrigger_mirrored_requests_total service=empty result=no_endpoint => 10
            count outrigger_mirrored_requests_total => 50
            says nobody.default.svc.cluster.local
            count istio_requests_total => 70
            count istio_requests_total destination_version=v1 response_code=200 => 70
        ",
    },
];

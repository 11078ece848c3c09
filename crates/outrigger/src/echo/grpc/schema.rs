//! What clients are told of our services: the `.proto` files, written as tables and made into descriptors.

use super::descriptor::{
    EnumDescriptor, EnumValueDescriptor, FieldDescriptor, FileDescriptor, MessageDescriptor, MethodDescriptor,
    OneofDescriptor, ServiceDescriptor,
};

/// A `.proto` file of one service, without imports.
pub(super) struct File {
    name: &'static str,
    package: &'static str,
    messages: &'static [Described],
    service: &'static str,
    methods: &'static [Method],
}

/// A message.
struct Described {
    name: &'static str,
    /// Name, number, type. A type is a scalar, or a message of the same file, or an enum of the same message; `repeated `
    /// may stand before it, and `oneof ` before a member of the one union that a message may have.
    fields: &'static [(&'static str, i32, &'static str)],
    /// Name of the union.
    oneof: Option<&'static str>,
    /// Name of an enum inside, and its values from 0 on.
    values: Option<(&'static str, &'static [&'static str])>,
}

/// Name, request, whether that is a stream, answer, whether that is a stream.
type Method = (&'static str, &'static str, bool, &'static str, bool);

/// Everything that is served.
pub(super) const FILES: [File; 4] = [
    File {
        name: "outrigger/echo/v1/echo.proto",
        package: "outrigger.echo.v1",
        messages: &[
            Described::plain("EchoRequest", &[("payload", 1, "bytes"), ("count", 2, "int32")]),
            Described::plain(
                "EchoResponse",
                &[("pod", 1, "string"), ("json", 2, "string"), ("payload", 3, "bytes"), ("messages", 4, "uint64")],
            ),
        ],
        service: "Echo",
        methods: &[
            ("Unary", "EchoRequest", false, "EchoResponse", false),
            ("ServerStream", "EchoRequest", false, "EchoResponse", true),
            ("ClientStream", "EchoRequest", true, "EchoResponse", false),
            ("Bidi", "EchoRequest", true, "EchoResponse", true),
        ],
    },
    File {
        name: "grpc/health/v1/health.proto",
        package: "grpc.health.v1",
        messages: &[
            Described::plain("HealthCheckRequest", &[("service", 1, "string")]),
            Described {
                values: Some(("ServingStatus", &["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"])),
                ..Described::plain("HealthCheckResponse", &[("status", 1, "ServingStatus")])
            },
        ],
        service: "Health",
        methods: &[
            ("Check", "HealthCheckRequest", false, "HealthCheckResponse", false),
            ("Watch", "HealthCheckRequest", false, "HealthCheckResponse", true),
        ],
    },
    File {
        name: "grpc/reflection/v1/reflection.proto",
        package: "grpc.reflection.v1",
        messages: REFLECTION,
        service: "ServerReflection",
        methods: REFLECTION_METHODS,
    },
    File {
        name: "grpc/reflection/v1alpha/reflection.proto",
        package: "grpc.reflection.v1alpha",
        messages: REFLECTION,
        service: "ServerReflection",
        methods: REFLECTION_METHODS,
    },
];

const REFLECTION_METHODS: &[Method] =
    &[("ServerReflectionInfo", "ServerReflectionRequest", true, "ServerReflectionResponse", true)];

const REFLECTION: &[Described] = &[
    Described {
        oneof: Some("message_request"),
        ..Described::plain(
            "ServerReflectionRequest",
            &[
                ("host", 1, "string"),
                ("file_by_filename", 3, "oneof string"),
                ("file_containing_symbol", 4, "oneof string"),
                ("file_containing_extension", 5, "oneof ExtensionRequest"),
                ("all_extension_numbers_of_type", 6, "oneof string"),
                ("list_services", 7, "oneof string"),
            ],
        )
    },
    Described::plain("ExtensionRequest", &[("containing_type", 1, "string"), ("extension_number", 2, "int32")]),
    Described {
        oneof: Some("message_response"),
        ..Described::plain(
            "ServerReflectionResponse",
            &[
                ("valid_host", 1, "string"),
                ("original_request", 2, "ServerReflectionRequest"),
                ("file_descriptor_response", 4, "oneof FileDescriptorResponse"),
                ("all_extension_numbers_response", 5, "oneof ExtensionNumberResponse"),
                ("list_services_response", 6, "oneof ListServiceResponse"),
                ("error_response", 7, "oneof ErrorResponse"),
            ],
        )
    },
    Described::plain("FileDescriptorResponse", &[("file_descriptor_proto", 1, "repeated bytes")]),
    Described::plain(
        "ExtensionNumberResponse",
        &[("base_type_name", 1, "string"), ("extension_number", 2, "repeated int32")],
    ),
    Described::plain("ListServiceResponse", &[("service", 1, "repeated ServiceResponse")]),
    Described::plain("ServiceResponse", &[("name", 1, "string")]),
    Described::plain("ErrorResponse", &[("error_code", 1, "int32"), ("error_message", 2, "string")]),
];

impl File {
    /// Its name, as a client asks for it.
    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    /// The full name of its service.
    pub(super) fn service(&self) -> String {
        format!("{}.{}", self.package, self.service)
    }

    /// Whether it defines a symbol: a service, a method, a message, a field, an enum or one of its values.
    pub(super) fn defines(&self, symbol: &str) -> bool {
        let Some(local) = symbol.strip_prefix(self.package).and_then(|rest| rest.strip_prefix('.')) else {
            return false;
        };
        let (name, member) = match local.split_once('.') {
            Some((name, member)) => (name, Some(member)),
            None => (local, None),
        };
        if name == self.service {
            return member.is_none_or(|member| self.methods.iter().any(|(method, ..)| *method == member));
        }
        let is_member = |message: &Described, member: &str| {
            let (values, value) = member.split_once('.').unwrap_or((member, ""));
            let is_value = |(name, all): &(&str, &[&str])| {
                *name == values && (value.is_empty() || all.contains(&value)) || all.contains(&member)
            };
            message.fields.iter().any(|(field, ..)| *field == member) || message.values.as_ref().is_some_and(is_value)
        };
        let message = self.messages.iter().find(|message| message.name == name);
        message.is_some_and(|message| member.is_none_or(|member| is_member(message, member)))
    }

    /// What a client decodes.
    pub(super) fn descriptor(&self) -> FileDescriptor {
        let full = |name: &str| Some(format!(".{}.{name}", self.package));
        let method = |(name, input, is_input_stream, output, is_output_stream): &Method| MethodDescriptor {
            name: text(name),
            input_type: full(input),
            output_type: full(output),
            client_streaming: Some(*is_input_stream),
            server_streaming: Some(*is_output_stream),
        };
        FileDescriptor {
            name: text(self.name),
            package: text(self.package),
            message_type: self.messages.iter().map(|message| message.descriptor(self.package)).collect(),
            service: vec![ServiceDescriptor {
                name: text(self.service),
                method: self.methods.iter().map(method).collect(),
            }],
            syntax: text("proto3"),
        }
    }
}

impl Described {
    const fn plain(name: &'static str, fields: &'static [(&'static str, i32, &'static str)]) -> Self {
        Self { name, fields, oneof: None, values: None }
    }

    fn descriptor(&self, package: &str) -> MessageDescriptor {
        let values = |(name, values): &(&str, &[&str])| EnumDescriptor {
            name: text(name),
            value: (0..)
                .zip(*values)
                .map(|(number, name)| EnumValueDescriptor { name: text(name), number: Some(number) })
                .collect(),
        };
        MessageDescriptor {
            name: text(self.name),
            field: self.fields.iter().map(|field| self.field(package, field)).collect(),
            enum_type: self.values.iter().map(values).collect(),
            oneof_decl: self.oneof.iter().map(|name| OneofDescriptor { name: text(name) }).collect(),
        }
    }

    fn field(&self, package: &str, (name, number, kind): &(&str, i32, &str)) -> FieldDescriptor {
        let (is_repeated, kind) = kind.strip_prefix("repeated ").map_or((false, *kind), |kind| (true, kind));
        let (oneof_index, kind) = kind.strip_prefix("oneof ").map_or((None, kind), |kind| (Some(0), kind));
        // The numbers of FieldDescriptorProto.Type.
        let (kind, type_name) = match kind {
            "uint64" => (4, None),
            "int32" => (5, None),
            "string" => (9, None),
            "bytes" => (12, None),
            _ if self.values.as_ref().is_some_and(|(name, _)| *name == kind) => {
                (14, Some(format!(".{package}.{}.{kind}", self.name)))
            }
            _ => (11, Some(format!(".{package}.{kind}"))),
        };
        FieldDescriptor {
            name: text(name),
            number: Some(*number),
            label: Some(if is_repeated { 3 } else { 1 }),
            kind: Some(kind),
            type_name,
            oneof_index,
            json_name: Some(camel(name)),
        }
    }
}

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

/// `file_by_filename` as JSON has it, `fileByFilename`.
fn camel(name: &str) -> String {
    let mut words = name.split('_');
    let mut camel = words.next().unwrap_or_default().to_owned();
    for word in words {
        let (first, rest) = word.split_at(1);
        camel.push_str(&first.to_ascii_uppercase());
        camel.push_str(rest);
    }
    camel
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_are_found_where_they_are_defined() {
        let file = |symbol: &str| FILES.iter().find(|file| file.defines(symbol)).map(File::name);
        for symbol in ["Echo", "Echo.Bidi", "EchoRequest", "EchoRequest.count"] {
            assert_eq!(file(&format!("outrigger.echo.v1.{symbol}")), Some("outrigger/echo/v1/echo.proto"), "{symbol}");
        }
        for symbol in ["HealthCheckResponse.ServingStatus", "HealthCheckResponse.ServingStatus.SERVING"] {
            assert_eq!(file(&format!("grpc.health.v1.{symbol}")), Some("grpc/health/v1/health.proto"), "{symbol}");
        }
        assert_eq!(file("grpc.reflection.v1alpha.ServerReflection"), Some("grpc/reflection/v1alpha/reflection.proto"));
        for unknown in ["outrigger.echo.v1", "outrigger.echo.v1.Ech", "outrigger.echo.v1.Echo.Binary", "Echo", ""] {
            assert_eq!(file(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn every_type_that_is_named_is_there() {
        for file in FILES {
            let FileDescriptor { message_type, service, package, .. } = file.descriptor();
            let package = package.expect("set");
            let messages = message_type.iter().flat_map(|message| {
                let name = format!(".{package}.{}", message.name.as_deref().expect("set"));
                let values = message.enum_type.iter().map({
                    let name = name.clone();
                    move |values| format!("{name}.{}", values.name.as_deref().expect("set"))
                });
                values.chain([name]).collect::<Vec<_>>()
            });
            let known: Vec<String> = messages.collect();
            let fields =
                message_type.iter().flat_map(|message| &message.field).filter_map(|field| field.type_name.clone());
            let methods = service.iter().flat_map(|service| &service.method);
            let types = methods.flat_map(|method| [method.input_type.clone(), method.output_type.clone()]).flatten();
            for name in fields.chain(types) {
                assert!(known.contains(&name), "{name} is not among {known:?}");
            }
        }
    }

    #[test]
    fn json_names() {
        assert_eq!(camel("all_extension_numbers_of_type"), "allExtensionNumbersOfType");
        assert_eq!(camel("pod"), "pod");
    }
}

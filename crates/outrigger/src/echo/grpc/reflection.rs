//! Server reflection, `grpc.reflection.v1` and `v1alpha`: lets clients such as grpcurl call without a `.proto` file.

use prost::Message;

use super::call::Call;
use super::code;
use super::messages::Messages;
use super::proto::{
    ErrorResponse, FileDescriptorResponse, ListServiceResponse, Question, ReflectionRequest, ReflectionResponse,
    ServiceResponse, Told,
};
use super::schema::{FILES, File};
use super::{End, proto};

/// Answers questions until there are no more.
pub(super) async fn serve(call: &mut Call, messages: &mut Messages) -> Result<(), End> {
    while let Some(request) = messages.next_as::<ReflectionRequest>().await? {
        let told = tell(request.message_request.as_ref());
        let response = ReflectionResponse {
            valid_host: request.host.clone(),
            message_response: Some(told),
            original_request: Some(request),
        };
        call.send_message(&response).await?;
    }
    Ok(())
}

fn tell(question: Option<&Question>) -> Told {
    match question {
        Some(Question::ListServices(_)) => {
            let service = FILES.iter().map(|file| ServiceResponse { name: file.service() }).collect();
            Told::Services(ListServiceResponse { service })
        }
        Some(Question::FileByFilename(name)) => file(FILES.iter().find(|file| file.name() == name), name),
        Some(Question::FileContainingSymbol(name)) => file(FILES.iter().find(|file| file.defines(name)), name),
        Some(Question::FileContainingExtension(proto::ExtensionRequest { containing_type: name, .. })) => {
            unknown(code::NOT_FOUND, format!("{name} has no extensions"))
        }
        Some(Question::AllExtensionNumbersOfType(name)) => {
            if FILES.iter().any(|file| file.defines(name)) {
                let base_type_name = name.clone();
                let none = proto::ExtensionNumberResponse { base_type_name, extension_number: Vec::new() };
                return Told::Extensions(none);
            }
            unknown(code::NOT_FOUND, format!("there is no {name}"))
        }
        None => unknown(code::INVALID_ARGUMENT, "the message asks nothing that is known".to_owned()),
    }
}

fn file(found: Option<&File>, name: &str) -> Told {
    match found {
        Some(file) => {
            Told::Files(FileDescriptorResponse { file_descriptor_proto: vec![file.descriptor().encode_to_vec()] })
        }
        None => unknown(code::NOT_FOUND, format!("there is no {name}")),
    }
}

fn unknown(code: u16, error_message: String) -> Told {
    Told::Error(ErrorResponse { error_code: code.into(), error_message })
}

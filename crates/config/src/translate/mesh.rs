//! Mesh settings from ConfigMap `istio`.

use std::sync::Arc;

use outrigger_model::{Diagnostic, Level, RetryPolicy};

use crate::codes;
use crate::decode::Cx;
use crate::document::decode_nested;
use crate::kind::config_map::{ConfigMap, ConfigText};
use crate::kind::istio::Unmodelled;
use crate::kind::mesh_config::MeshConfig;
use crate::kind::resilience::{Retries, default_retry};
use crate::resources::Resources;

/// Where Istio's settings stand before they can say anything else.
const NAMESPACE: &str = "istio-system";
const NAME: &str = "istio";

/// The object that holds the mesh settings.
pub(crate) fn config_map(resources: &Resources) -> Option<&ConfigMap> {
    resources.config_maps.get(NAMESPACE, NAME).map(|map| &**map)
}

/// The mesh settings of an input; a broken text leaves those of before (or Istio's defaults) in force.
pub(crate) fn read(resources: &Resources, before: Option<&Arc<MeshConfig>>) -> (Arc<MeshConfig>, Vec<Diagnostic>) {
    let Some(map) = resources.config_maps.get(NAMESPACE, NAME) else { return (Arc::default(), Vec::new()) };
    let mut diagnostics = Vec::new();
    if let Some(text) =
        map.data.get("meshNetworks").filter(|t| !t.text.trim().is_empty() && t.text.trim() != "networks: {}")
    {
        decode::<Unmodelled>("meshNetworks", map, text, &mut diagnostics);
    }
    let Some(text) = map.data.get("mesh") else { return (Arc::default(), diagnostics) };
    let config = decode::<MeshConfig>("mesh", map, text, &mut diagnostics);
    let broken = diagnostics.iter().any(|d| d.level == Level::Error);
    let config = match (config, before) {
        (Some(config), _) if !broken => Arc::new(config),
        (_, Some(before)) if broken => {
            let message = "the mesh settings are invalid; those of before stay in force";
            diagnostics.push(codes::LAST_GOOD.about(&map.meta, text.origin, message, ""));
            before.clone()
        }
        _ => Arc::default(),
    };
    (config, diagnostics)
}

fn decode<T: crate::decode::Decode>(
    key: &'static str,
    map: &ConfigMap,
    text: &ConfigText,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<T> {
    let mut cx = Cx::default();
    let decoded = cx.within("data", |cx| cx.within(key, |cx| decode_nested(&text.text, text.origin, cx)));
    let problems = cx.take_problems().into_iter();
    diagnostics.extend(problems.map(|p| p.code.about(&map.meta, p.pos, p.message, p.hint)));
    decoded
}

/// The retry policy of routes that have none.
pub(crate) fn retry(mesh: &MeshConfig) -> RetryPolicy {
    mesh.retries.as_ref().map_or_else(default_retry, Retries::model)
}

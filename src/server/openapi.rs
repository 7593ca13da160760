//! The interface in the words of OpenAPI 3.1, out of the types that `api` reads and writes.

use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

use super::Limits;
use super::api::{Health, ListOrProblem, ListRequest, Problem, ScoreRequest, Scores};
use crate::serve::Recommendations;

/// Where schemas stand in the document.
const PLACE: &str = "/components/schemas";

/// The document of a server with these limits.
pub fn document(limits: &Limits) -> Value {
    let place = |settings: &mut SchemaSettings| settings.definitions_path = PLACE.into();
    let read = SchemaSettings::draft2020_12().for_deserialize().with(place);
    let written = SchemaSettings::draft2020_12().for_serialize().with(place);
    let (mut read, mut written) = (read.into_generator(), written.into_generator());
    let list_request = read.subschema_for::<ListRequest>().to_value();
    let score_request = read.subschema_for::<ScoreRequest>().to_value();
    let list = written.subschema_for::<Recommendations>().to_value();
    let entry = written.subschema_for::<ListOrProblem>().to_value();
    let scores = written.subschema_for::<Scores>().to_value();
    let health = written.subschema_for::<Health>().to_value();
    let problem = written.subschema_for::<Problem>().to_value();
    let mut schemas = read.take_definitions(true);
    schemas.extend(written.take_definitions(true));

    let content = |schema: &Value| json!({ "application/json": { "schema": schema } });
    let failed = |what: &str| json!({ "description": what, "content": content(&problem) });
    let errors = |mut responses: Value, posted: bool| {
        let Some(all) = responses.as_object_mut() else { return responses };
        if posted {
            all.insert("408".into(), failed("The body did not come in time."));
            all.insert("413".into(), failed("The body is too large."));
            all.insert(
                "422".into(),
                failed("The body is not what is described here, or names ids that are not known."),
            );
            all.insert("429".into(), failed("Too many requests at once: try again after the seconds of Retry-After."));
            all.insert("500".into(), failed("The work failed."));
        }
        all.insert("503".into(), failed("The work took too long, or the server is stopping."));
        responses
    };
    let batch = |schema: &Value, most: usize| json!({ "type": "array", "items": schema, "maxItems": most });
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "rallrec serve",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Recommendations out of a finished run."
        },
        "paths": {
            "/recommend": { "post": {
                "operationId": "recommend",
                "summary": "A list for a user or a history; an array of requests gives as many lists.",
                "requestBody": {
                    "required": true,
                    "content": content(&json!({ "oneOf": [list_request, batch(&list_request, limits.batch)] }))
                },
                "responses": errors(json!({ "200": {
                    "description": "The list; of an array, a list or an error each, in its order.",
                    "content": content(&json!({ "oneOf": [list, batch(&entry, limits.batch)] }))
                }}), true)
            }},
            "/score": { "post": {
                "operationId": "score",
                "summary": "Scores of pairs of users and items.",
                "requestBody": { "required": true, "content": content(&score_request) },
                "responses": errors(json!({ "200": {
                    "description": "The scores, in the order of the pairs.", "content": content(&scores)
                }}), true)
            }},
            "/health": { "get": {
                "operationId": "health",
                "summary": "How the server is.",
                "responses": errors(json!({ "200": { "description": "It works.", "content": content(&health) }}), false)
            }},
            "/openapi.json": { "get": {
                "operationId": "openapi",
                "summary": "This document.",
                "responses": { "200": {
                    "description": "The document.", "content": content(&json!({ "type": "object" }))
                }}
            }}
        },
        "components": { "schemas": schemas }
    })
}

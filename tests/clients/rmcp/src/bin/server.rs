//! A server on the Rust SDK, over standard input and output.

use std::sync::Arc;

use anyhow::Result;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, ListToolsResult, PaginatedRequestParams,
    ServerCapabilities, ServerConfig, Tool,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer, ServerHandler, ServiceExt};

#[derive(Clone)]
struct Calculator;

impl ServerHandler for Calculator {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let text = match request.name.as_ref() {
            "whoami" => "rmcp".to_owned(),
            "add" => {
                let arguments = request.arguments.unwrap_or_default();
                let number = |name: &str| arguments.get(name).and_then(serde_json::Value::as_i64).unwrap_or_default();
                (number("a") + number("b")).to_string()
            }
            other => return Err(ErrorData::invalid_params(format!("no tool named {other}"), None)),
        };
        Ok(CallToolResult::success(vec![ContentBlock::text(text)]).into())
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let schema = |properties: serde_json::Value| {
            let schema = serde_json::json!({"type": "object", "properties": properties});
            Arc::new(schema.as_object().cloned().unwrap_or_default())
        };
        let numbers = serde_json::json!({"a": {"type": "integer"}, "b": {"type": "integer"}});
        Ok(ListToolsResult::with_all_items(vec![
            Tool::new("add", "Adds two numbers", schema(numbers)),
            Tool::new("whoami", "Says who answers", schema(serde_json::json!({}))),
        ]))
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    Calculator.serve(rmcp::transport::stdio()).await?.waiting().await?;
    Ok(())
}

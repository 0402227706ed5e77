//! Completion: what a prompt's argument, or a template's variable, may become that is being typed.
//!
//! Not here: which argument is meant (`service`). Invariant: a completion says at most a hundred values, and how many
//! there would be.

use super::context::Context;
use super::failure::{Asked, Failure};
use super::outcome::{Outcome, Rendered};
use super::prompt::PromptArguments;
use crate::limits::COMPLETION_VALUES_MAX;
use crate::proto::json::Object;
use crate::proto::mcp::Version;
use crate::server::service::LocalFuture;

/// What is to be completed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Completing {
    pub(super) value: String,
    pub(super) others: PromptArguments,
}

impl Completing {
    /// What was typed so far.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// An argument that was chosen before.
    pub fn argument(&self, name: &str) -> Option<&str> {
        self.others.get(name)
    }
}

/// What an asynchronous completion may return: the values, or a `Result` of these.
pub trait IntoCompletion {
    /// The values, the best first.
    fn into_completion(self) -> Result<Vec<String>, Failure>;
}

impl IntoCompletion for Vec<String> {
    fn into_completion(self) -> Result<Vec<String>, Failure> {
        Ok(self)
    }
}

impl<T: IntoCompletion, E: Into<Failure>> IntoCompletion for Result<T, E> {
    fn into_completion(self) -> Result<Vec<String>, Failure> {
        self.map_err(Into::into)?.into_completion()
    }
}

type AsyncCompleter<S> = Box<dyn Fn(Completing, Context<S>) -> LocalFuture<Outcome> + Send + Sync>;
type PlainCompleter<S> = Box<dyn Fn(&Completing, &Context<S>) -> Outcome + Send + Sync>;

pub(super) enum Completer<S> {
    Async(AsyncCompleter<S>),
    Plain(PlainCompleter<S>),
}

pub(super) fn plain<S>(
    complete: impl Fn(&Completing, &Context<S>) -> Vec<String> + Send + Sync + 'static,
) -> Completer<S> {
    Completer::Plain(Box::new(move |completing, ctx| Ok(render(&complete(completing, ctx)))))
}

pub(super) fn asynchronous<S, R, F, Fut>(complete: F) -> Completer<S>
where
    R: IntoCompletion,
    F: Fn(Completing, Context<S>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = R> + 'static,
{
    Completer::Async(Box::new(move |completing, ctx| {
        let version = ctx.version();
        let future = complete(completing, ctx);
        Box::pin(async move { settle(future.await, version) })
    }))
}

fn settle(completion: impl IntoCompletion, version: Version) -> Outcome {
    match completion.into_completion() {
        Ok(values) => Ok(render(&values)),
        Err(failure) => failure.settle(Asked::Completion, version).map(|_| Rendered::default()),
    }
}

/// The members of a completion's result.
pub(super) fn render(values: &[String]) -> Rendered {
    let mut members = br#""completion":"#.to_vec();
    let mut object = Object::begin(&mut members);
    let mut array = object.array("values");
    values.iter().take(COMPLETION_VALUES_MAX).for_each(|value| array.string(value));
    array.end();
    object.integer("total", values.len());
    object.boolean("hasMore", values.len() > COMPLETION_VALUES_MAX);
    object.end();
    Rendered { members, meta: Vec::new() }
}

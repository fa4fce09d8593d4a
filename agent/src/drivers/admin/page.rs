//! Pages and where they are found.

use std::pin::Pin;

use hyper::body::Bytes;

/// One page's answer.
#[derive(Clone, Debug)]
pub struct Page {
    /// HTTP status.
    pub status: u16,
    /// MIME type of the body.
    pub content_type: &'static str,
    /// What is shown.
    pub body: Bytes,
}

/// A page that is still being made.
pub(super) type Making = Pin<Box<dyn Future<Output = Page> + Send>>;

/// Makes a page from the query of the request, which is as it came: hostile, and empty where there is none.
type Make = Box<dyn Fn(&str) -> Making + Send + Sync>;

/// A path and what it shows.
pub struct Route {
    /// For example `/metrics`.
    pub path: &'static str,
    /// What it is for, one line.
    pub about: &'static str,
    /// Answers GET. Changes nothing.
    pub(super) get: Make,
    /// Answers POST, where something can be changed.
    pub(super) post: Option<Make>,
}

impl Page {
    /// A page of any type.
    #[must_use]
    pub fn new(status: u16, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        Self { status, content_type, body: body.into() }
    }

    /// A text page.
    #[must_use]
    pub fn text(status: u16, body: impl Into<String>) -> Self {
        Self::new(status, "text/plain; charset=utf-8", body.into())
    }

    /// A JSON page.
    #[must_use]
    pub fn json(body: String) -> Self {
        Self::new(200, "application/json", body)
    }
}

impl Route {
    /// A page that is made at once.
    #[must_use]
    pub fn new(path: &'static str, about: &'static str, page: impl Fn(&str) -> Page + Send + Sync + 'static) -> Self {
        Self { path, about, get: at_once(page), post: None }
    }

    /// A page that takes its time.
    #[must_use]
    pub fn made_by<F>(path: &'static str, about: &'static str, make: impl Fn(&str) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Page> + Send + 'static,
    {
        Self { path, about, get: Box::new(move |query| Box::pin(make(query))), post: None }
    }

    /// The same with something that POST does.
    #[must_use]
    pub fn with_post(self, page: impl Fn(&str) -> Page + Send + Sync + 'static) -> Self {
        Self { post: Some(at_once(page)), ..self }
    }
}

fn at_once(page: impl Fn(&str) -> Page + Send + Sync + 'static) -> Make {
    Box::new(move |query| Box::pin(std::future::ready(page(query))))
}

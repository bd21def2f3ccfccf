//! Components that answer HTTP requests.

use super::Sandbox;
use crate::component::Val;
use crate::error::{Error, Result};
use bytes::Bytes;
use http_body::Body as HttpBody;
use http_body_util::BodyExt as _;
use sandgrain_wasi::component::{Body, Incoming, NoResponse};
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

/// The interface by which a component answers requests, without its version.
const HANDLER: &str = "wasi:http/incoming-handler@0.2.";

impl Sandbox {
    /// The name of the function by which the component answers HTTP requests, if it does.
    #[must_use]
    pub fn http_handler(&self) -> Option<String> {
        let info = self.exports.component(self.main()).ok()?;
        let handler = info.exports.iter().find(|function| match function.path.as_slice() {
            [instance, name] => instance.starts_with(HANDLER) && name == "handle",
            _ => false,
        });
        handler.map(|function| function.path.join("#"))
    }

    /// Has the component answer an HTTP request, by its export `wasi:http/incoming-handler`. WASI must be granted. The
    /// response is given to `respond` as soon as the guest has it, whose body goes on to come while the guest writes it:
    /// somebody has to read it meanwhile, or the guest waits. This returns when the guest is done.
    ///
    /// # Errors
    /// [`Error::BadCall`] if the component has no such export, [`Error::HostFunction`] if it has not answered;
    /// otherwise what the call led to, as for [`call_component`](Self::call_component).
    pub async fn handle_http<B>(
        &mut self,
        request: http::Request<B>,
        respond: impl FnOnce(http::Response<Body>),
    ) -> Result<()>
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: fmt::Display,
    {
        let Some(handler) = self.http_handler() else {
            return Err(Error::BadCall(
                "it exports no wasi:http/incoming-handler@0.2, by which a component answers HTTP requests"
                    .to_owned(),
            ));
        };
        self.check_alive()?;
        let Some(wasi) = &mut self.host.wasi else {
            return Err(Error::BadCall(
                "WASI is not granted, which a component answers HTTP requests by".to_owned(),
            ));
        };
        let incoming = wasi.incoming_request(request);
        let Incoming { request, response_outparam, response, end } =
            incoming.map_err(|error| self.host.error_of_wasi(|| handler.clone(), error))?;
        let args = [Val::HostResource(request), Val::HostResource(response_outparam)];
        let known = self.host.known(&self.component_imports, request)?;
        let call = self.exports.prepare_known(&handler, &args, known)?;
        let mut response = pin!(response);
        let mut respond = Some(respond);
        let mut refusal = None;
        let called = {
            let mut call = pin!(self.call_prepared(&handler, call));
            poll_fn(|context| {
                if respond.is_some()
                    && refusal.is_none()
                    && let Poll::Ready(response) = response.as_mut().poll(context)
                {
                    match response {
                        Ok(response) => {
                            if let Some(respond) = respond.take() {
                                respond(response);
                            }
                        }
                        Err(error) => refusal = Some(error),
                    }
                }
                call.as_mut().poll(context)
            })
            .await
        };
        called?;
        end.returned();
        if let Some(respond) = respond {
            // It may have answered with its very last call.
            let answered = match refusal {
                Some(refusal) => Err(refusal),
                None => {
                    poll_fn(|context| {
                        let polled = response.as_mut().poll(context);
                        Poll::Ready(match polled {
                            Poll::Ready(response) => response,
                            Poll::Pending => Err(NoResponse::Dropped),
                        })
                    })
                    .await
                }
            };
            let response = answered.map_err(|source| Error::HostFunction {
                function: handler,
                source: source.into(),
            })?;
            respond(response);
        }
        Ok(())
    }

    /// As [`handle_http`](Self::handle_http), with all of the response's body.
    ///
    /// # Errors
    /// As [`handle_http`](Self::handle_http); [`Error::HostFunction`] if the body breaks off.
    pub async fn answer_http<B>(
        &mut self,
        request: http::Request<B>,
    ) -> Result<http::Response<Bytes>>
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: fmt::Display,
    {
        let (give, take) = tokio::sync::oneshot::channel();
        let handled = self.handle_http(request, |response| {
            // It is taken below for as long as this runs.
            let _ = give.send(response);
        });
        let collected = async {
            let Ok(response) = take.await else { return Ok(None) };
            let (parts, body) = response.into_parts();
            Ok(Some(
                body.collect().await.map(|body| http::Response::from_parts(parts, body.to_bytes())),
            ))
        };
        // A body that its guest will not go on with does not come to its end.
        let ((), collected) = tokio::try_join!(handled, collected)?;
        let lost = |source| Error::HostFunction { function: "the response".to_owned(), source };
        match collected {
            Some(response) => response.map_err(|error| lost(error.into())),
            None => Err(lost(NoResponse::Dropped.into())),
        }
    }
}

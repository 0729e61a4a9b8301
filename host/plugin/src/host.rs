//! What stands behind a guest's imports during one call: memory accounting, log budget, WASI without files, sockets,
//! arguments or environment.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use wasmtime::ResourceLimiter;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtxView, WasiHttpView};

use super::grants::Grants;
use super::http;
use super::redact::Redactor;
use super::stdio::Stdio;
use super::tape::Outside;
use trunkline_config::Limits;
use trunkline_event::{Emission, PluginName};
use trunkline_state::Space;

/// Lines of the log that go into a dead letter, and how much of each.
const LAST_LINES: usize = 10;
const LAST_LINE_MAX_BYTES: usize = 256;
/// Handles that a guest holds at a time: streams, requests, stores.
const HANDLES_MAX: usize = 1000;
/// Elements of all tables of an instance together.
pub(super) const TABLE_ELEMENTS_MAX: usize = 10_000;
/// One call for random bytes is not interrupted.
const RANDOM_MAX_BYTES: u64 = 1 << 20;
/// What a line costs of the budget beside its text, so that empty ones do not come for nothing.
const LINE_BYTES: usize = 32;
/// Room for the records around the data of an emission.
const EMISSION_OVERHEAD_BYTES: u64 = 256;

/// A guest left more with the host, call by call, than its answer might hold.
#[derive(Debug, thiserror::Error)]
#[error("it gave the host more than limits.output")]
pub(super) struct OverBudget;

/// What a guest may hand to the host, in bytes: its output and the records around it.
pub(super) fn budget_bytes(limits: &Limits) -> usize {
    let overhead = u64::from(limits.emissions_max) * EMISSION_OVERHEAD_BYTES;
    usize::try_from(limits.output_max_bytes.saturating_add(overhead)).unwrap_or(usize::MAX)
}

/// The data of a store.
pub struct Host {
    pub(super) memory: Memory,
    pub(super) log: Log,
    pub(super) grants: Arc<Grants>,
    pub(super) table: ResourceTable,
    /// What was sent so far, where emissions are made by calls and not by the answer.
    pub(super) sent: Vec<Emission>,
    /// What may still be left with the host in that way.
    pub(super) left_bytes: usize,
    /// Values that open compare-and-sets hold.
    pub(super) cas_bytes: usize,
    /// Where its questions go.
    pub(super) outside: Outside,
    /// Only for a plugin with state.
    tenant: Option<String>,
    limit: Duration,
    ends: Instant,
    /// Made when they are used first; boxed, because most calls carry them empty.
    http: Option<Box<http::Call>>,
    space: Option<Box<Space>>,
    /// Made on first use: its random generators cost more than the whole call of a plugin that needs none.
    wasi: Option<WasiCtx>,
    /// Made on first use.
    stdio: Option<Stdio>,
}

impl Host {
    pub(super) fn new(
        plugin: &PluginName,
        (event, tenant): (&str, Option<&str>),
        (limits, ends): (&Limits, Instant),
        (grants, outside): (Arc<Grants>, Outside),
    ) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(HANDLES_MAX);
        Self {
            memory: Memory { used_bytes: 0, max_bytes: limits.memory_max_bytes, table_elements: 0, denied: None },
            log: Log {
                plugin: plugin.clone(),
                event: event.to_owned(),
                left_bytes: usize::try_from(limits.log_max_bytes).unwrap_or(usize::MAX),
                dropped: 0,
                last: VecDeque::new(),
                redactor: grants.redactor.clone(),
            },
            table,
            sent: Vec::new(),
            left_bytes: budget_bytes(limits),
            cas_bytes: 0,
            outside,
            tenant: tenant.filter(|_| grants.kv.is_some()).map(str::to_owned),
            limit: limits.timeout,
            ends,
            http: None,
            space: None,
            grants,
            wasi: None,
            stdio: None,
        }
    }

    /// The end of what the guest wrote to stderr: a panic's text.
    pub(super) fn stderr_text(&self) -> String {
        let text = self.stdio.as_ref().map(|stdio| stdio.err.text()).unwrap_or_default();
        self.grants.redactor.clean_end(&text).into_owned()
    }

    /// Where it prints to.
    pub(super) fn stdio(&mut self) -> &mut Stdio {
        self.stdio.get_or_insert_default()
    }

    /// The state of the event's tenant; none where it is not granted.
    pub(super) fn space(&mut self) -> Option<&mut Space> {
        if self.space.is_none() {
            let kept = self.grants.kv.as_ref()?;
            let space = kept.state.as_ref()?.space(&kept.plugin, self.tenant.as_deref(), kept.quota);
            self.space = Some(Box::new(space));
        }
        self.space.as_deref_mut()
    }

    /// The state, if this call has used it.
    pub(super) fn used_space(&mut self) -> Option<&mut Space> {
        self.space.as_deref_mut()
    }

    /// Passes stdout and stderr on to the log and says how many lines were over the budget.
    pub(super) fn finish_log(&mut self) {
        let stdio = self.stdio.iter().flat_map(|stdio| [("info", &stdio.out), ("warn", &stdio.err)]);
        for (level, tail) in stdio {
            for line in self.grants.redactor.clean_end(&tail.text()).lines() {
                self.log.write(level, "stdio", line);
            }
        }
        if self.log.dropped > 0 {
            let Log { plugin, event, dropped, .. } = &self.log;
            tracing::warn!(target: "trunkline::plugin", %plugin, event, dropped, "log lines over limits.log were dropped");
        }
    }
}

impl Log {
    /// The last lines, oldest first.
    pub(super) fn last(&mut self) -> String {
        self.last.make_contiguous().join("\n")
    }
}

impl WasiView for Host {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let ctx = self.wasi.get_or_insert_with(|| {
            let mut wasi = WasiCtx::builder();
            let Stdio { out, err } = self.stdio.get_or_insert_default();
            wasi.stdout(out.clone()).stderr(err.clone()).max_random_size(RANDOM_MAX_BYTES);
            self.outside.furnish(&mut wasi);
            wasi.build()
        });
        WasiCtxView { ctx, table: &mut self.table }
    }
}

impl WasiHttpView for Host {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        let Self { http, grants, outside, log, ends, limit, table, .. } = self;
        let call = http.get_or_insert_with(|| {
            Box::new(http::Call::new(grants.http.clone(), outside.clone(), &log.event, (*ends, *limit)))
        });
        WasiHttpCtxView { ctx: &mut call.context, table, hooks: &mut call.hooks }
    }
}

/// Counts the linear memories of an instance together, so that several small ones do not pass where one would not, and
/// its tables in the same way.
pub(super) struct Memory {
    pub(super) used_bytes: u64,
    pub(super) max_bytes: u64,
    pub(super) table_elements: usize,
    /// The guest asked for more than it may have, of this.
    pub(super) denied: Option<Denied>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Denied {
    Memory,
    Table,
}

impl ResourceLimiter for Memory {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let wanted = self.used_bytes + desired.saturating_sub(current) as u64;
        if wanted > self.max_bytes {
            self.denied = Some(Denied::Memory);
            return Ok(false);
        }
        self.used_bytes = wanted;
        Ok(true)
    }

    fn table_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let wanted = self.table_elements + desired.saturating_sub(current);
        if wanted > TABLE_ELEMENTS_MAX {
            self.denied = Some(Denied::Table);
            return Ok(false);
        }
        self.table_elements = wanted;
        Ok(true)
    }
}

/// The plugin's lines of one event, up to its budget.
pub(super) struct Log {
    plugin: PluginName,
    event: String,
    left_bytes: usize,
    dropped: u32,
    /// The last lines, for a dead letter.
    last: VecDeque<String>,
    redactor: Redactor,
}

impl Log {
    /// Writes a line without its secrets. `level` is a word of wasi:logging.
    pub(super) fn write(&mut self, level: &str, context: &str, message: &str) {
        let (context, message) = (&*self.redactor.clean(context), &*self.redactor.clean(message));
        let bytes = LINE_BYTES + context.len() + message.len();
        if bytes > self.left_bytes {
            self.dropped += 1;
            return;
        }
        self.left_bytes -= bytes;
        if self.last.len() == LAST_LINES {
            self.last.pop_front();
        }
        let line = &message[..message.floor_char_boundary(LAST_LINE_MAX_BYTES)];
        self.last.push_back(if context.is_empty() {
            format!("{level}: {line}")
        } else {
            format!("{level} {context}: {line}")
        });
        let (plugin, event) = (&self.plugin, &self.event);
        match level {
            "error" | "critical" => {
                tracing::error!(target: "trunkline::plugin", %plugin, event, context, "{message}");
            }
            "warn" => tracing::warn!(target: "trunkline::plugin", %plugin, event, context, "{message}"),
            "info" => tracing::info!(target: "trunkline::plugin", %plugin, event, context, "{message}"),
            _ => tracing::debug!(target: "trunkline::plugin", %plugin, event, context, "{message}"),
        }
    }
}

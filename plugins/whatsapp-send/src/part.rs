//! One message of a reply: a text, or a file with a caption.

use whatsapp_messages::{Attachment, Contact, Reply, Response};

/// Longest caption of a file, in characters. WhatsApp refuses longer captions.
const CAPTION_MAX: usize = 1024;

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part<'a> {
    pub(crate) contact: &'a Contact,
    /// The text, or the caption of the file. A caption may be empty.
    pub(crate) text: String,
    pub(crate) file: Option<&'a Attachment>,
    /// WhatsApp's id of the answered message.
    pub(crate) answers: &'a str,
}

impl Part<'_> {
    /// The number of the contact with its `+`, or the address of a contact with a hidden number.
    pub(crate) fn number(&self) -> &str {
        self.contact.phone_number.as_deref().unwrap_or(&self.contact.remote_jid)
    }

    /// The words of the message. A file without a caption has its name or its address.
    pub(crate) fn words(&self) -> String {
        match self.file {
            Some(file) if self.text.is_empty() => file.file_name.clone().unwrap_or_else(|| file.url.clone()),
            Some(_) | None => self.text.clone(),
        }
    }
}

/// The first message of a reply, and the rest of the reply.
///
/// # Errors
/// A sentence that says what the reply lacks.
pub(crate) fn first(reply: &Reply) -> Result<(Part<'_>, Option<Reply>), String> {
    let (text, files) = (reply.response.text.trim(), &reply.response.attachments);
    let part = |text: String, file| Part { contact: &reply.contact, text, file, answers: &reply.original_message_id };
    let Some((file, others)) = files.split_first() else {
        if text.is_empty() {
            return Err("the reply has neither a text nor a file".to_owned());
        }
        return Ok((part(reply.response.text.clone(), None), None));
    };
    let own = file.caption.as_deref().map(str::trim).unwrap_or_default();
    let caption = if text.is_empty() || own.is_empty() { format!("{text}{own}") } else { format!("{text}\n\n{own}") };
    if !text.is_empty() && caption.chars().count() > CAPTION_MAX {
        return Ok((part(reply.response.text.clone(), None), Some(rest(reply, files))));
    }
    let rest = if others.is_empty() { None } else { Some(rest(reply, others)) };
    Ok((part(caption, Some(file)), rest))
}

/// The reply without its text, with these files. The id is the same at every attempt.
fn rest(reply: &Reply, files: &[Attachment]) -> Reply {
    let response = Response { text: String::new(), attachments: files.to_vec(), ..reply.response.clone() };
    Reply { message_id: format!("{}-more", reply.message_id), response, ..reply.clone() }
}

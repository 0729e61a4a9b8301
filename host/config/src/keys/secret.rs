//! `{ env = "NAME" }` and `{ file = "PATH" }`.

use crate::keys::key::{Key, TextValue};
use crate::keys::section::Section;

pub(crate) static ENV: Key<TextValue> = Key::text(
    "env",
    "the name of an environment variable",
    "The environment variable that contains the secret. The daemon removes white space at both ends of the secret.",
);
pub(crate) static FILE: Key<TextValue> = Key::text(
    "file",
    "the path of a file",
    "The file that contains the secret. The file has at most 64 KiB. The daemon removes white space at both ends of the secret.",
);

pub(crate) static SECRET: Section = Section {
    title: "Secrets",
    about: "routes.toml refers to a secret with either `env` or `file`. The daemon never prints a secret.",
    example: "[http]\ntokens = [{ env = \"TRUNKLINE_TOKEN\" }]\n\n[plugins.crm]\nsecrets = { api-key = { env = \"CRM_API_KEY\" } }\n\n[routes.crm]\nfrom = \"crm.#\"\nplugin = \"crm\"\n",
    path: &["plugins", "*", "secrets", "*"],
    keys: &[&[&ENV, &FILE]],
    reserved: &[],
};

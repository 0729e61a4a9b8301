// Draws openapi.json as a page to read. Texts of the document go into text nodes only, never into markup.
"use strict";

const METHODS = ["get", "post", "put", "patch", "delete"];
const content = document.getElementById("content");
const contents = document.getElementById("contents");
const filter = document.getElementById("filter");
let api = {};

function make(name, attributes, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) node.setAttribute(key, value);
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined) node.append(child);
  }
  return node;
}

// Paragraphs, with `code` between backticks.
function prose(text) {
  return (text || "").split(/\n\s*\n/).filter(Boolean).map((paragraph) =>
    make("p", {}, paragraph.split("`").map((part, at) => (at % 2 ? make("code", {}, part) : part))));
}

const anchor = (text) => text.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "");
const nameOf = (reference) => reference.split("/").pop();

function resolve(schema) {
  return schema && schema.$ref ? api.components.schemas[nameOf(schema.$ref)] : schema;
}

// The type of a schema in a few words, with links to those that have a name.
function kind(schema) {
  if (!schema || Object.keys(schema).length === 0) return ["any JSON value"];
  if (schema.$ref) {
    const name = nameOf(schema.$ref);
    return [make("a", { href: "#schema-" + anchor(name) }, name)];
  }
  const choices = schema.oneOf || schema.anyOf || schema.allOf;
  if (choices) return choices.flatMap((one, at) => (at ? [" or ", ...kind(one)] : kind(one)));
  const types = [].concat(schema.type || "any JSON value");
  return types.flatMap((type, at) => {
    let words = [type];
    if (type === "array" && schema.items) words = ["list of ", ...kind(schema.items)];
    if (type === "object" && schema.additionalProperties && schema.additionalProperties !== true) {
      words = ["object of ", ...kind(schema.additionalProperties)];
    }
    return at ? [" or ", ...words] : words;
  });
}

function bounds(schema) {
  const said = [];
  if (schema.format) said.push(schema.format);
  if (schema.enum) said.push("one of " + schema.enum.map((one) => JSON.stringify(one)).join(", "));
  for (const [key, words] of [["minimum", "at least"], ["maximum", "at most"], ["minLength", "characters, at least"],
    ["maxLength", "characters, at most"], ["minItems", "items, at least"], ["maxItems", "items, at most"]]) {
    if (schema[key] !== undefined) said.push(words + " " + schema[key]);
  }
  if (schema.pattern) said.push("matches " + schema.pattern);
  if (schema.default !== undefined) said.push("default " + JSON.stringify(schema.default));
  return said.length ? make("span", { class: "dim" }, " (" + said.join("; ") + ")") : null;
}

// An example of a schema: its own, or one made of its parts.
function example(schema, depth) {
  const known = resolve(schema) || {};
  if (known.examples && known.examples.length) return known.examples[0];
  if (known.example !== undefined) return known.example;
  if (known.default !== undefined) return known.default;
  if (known.enum) return known.enum[0];
  const choices = known.oneOf || known.anyOf || known.allOf;
  if (choices) return example(choices.find((one) => one.type !== "null") || choices[0], depth);
  const type = [].concat(known.type || [])[0];
  if (depth > 5) return null;
  switch (type) {
    case "object": {
      const made = {};
      for (const [name, property] of Object.entries(known.properties || {})) made[name] = example(property, depth + 1);
      if (!known.properties && known.additionalProperties) made.name = example(known.additionalProperties, depth + 1);
      return made;
    }
    case "array": return [example(known.items, depth + 1)];
    case "string": return known.format === "date-time" ? "2026-11-21T10:00:00Z" : "text";
    case "integer": case "number": return known.minimum || 0;
    case "boolean": return true;
    default: return type === undefined ? {} : null;
  }
}

function table(head, rows) {
  const row = (cells, cell) => make("tr", {}, cells.map((inner) => make(cell, {}, inner)));
  return make("div", { class: "wide" },
    make("table", {}, make("thead", {}, row(head, "th")), make("tbody", {}, rows.map((cells) => row(cells, "td")))));
}

const must = (is) => (is ? make("span", { class: "required" }, " required") : null);

function properties(schema) {
  const required = schema.required || [];
  return table(["Field", "Type", "Meaning"], Object.entries(schema.properties).map(([name, property]) => [
    [make("code", {}, name), must(required.includes(name))],
    [kind(property), bounds(property)],
    prose(property.description || (resolve(property) || {}).description),
  ]));
}

function bodies(described) {
  return Object.entries(described || {}).flatMap(([media, { schema, example: given }]) => {
    const shown = given !== undefined ? given : schema && media.includes("json") ? example(schema, 0) : undefined;
    const text = typeof shown === "string" ? shown : JSON.stringify(shown, null, 2);
    return [
      make("p", {}, make("code", {}, media), " ", kind(schema)),
      shown === undefined ? null : make("pre", { tabindex: "0", "aria-label": "Example" }, text),
    ];
  });
}

function operation(path, method, described) {
  const id = anchor(described.operationId || method + path);
  const node = make("section", { class: "operation", id, "aria-labelledby": id + "-title" },
    make("h3", { id: id + "-title" }, described.summary || described.operationId),
    make("code", { class: "path" }, make("span", { class: "method " + method }, method), path),
    prose(described.description));
  if (described.security && described.security.length) {
    const free = described.security.some((one) => Object.keys(one).length === 0);
    node.append(make("p", { class: "dim" }, free ? "Bearer token, where tokens are configured." : "Bearer token."));
  }
  if (described.parameters && described.parameters.length) {
    node.append(make("h4", {}, "Parameters"), table(["Name", "In", "Type", "Meaning"],
      described.parameters.map((one) => [
        [make("code", {}, one.name), must(one.required)], one.in,
        [kind(one.schema), bounds(resolve(one.schema) || {})], prose(one.description),
      ])));
  }
  if (described.requestBody) node.append(make("h4", {}, "Body"), ...bodies(described.requestBody.content).filter(Boolean));
  node.append(make("h4", {}, "Answers"));
  for (const [status, answer] of Object.entries(described.responses || {})) {
    const good = status < "400";
    node.append(make("details", good ? { open: "" } : {}, make("summary", {}, make("code", {}, status), " ",
      (answer.description || "").split(/\.\s/)[0]), prose(answer.description), bodies(answer.content)));
  }
  return { node, link: { id, text: described.summary || path, method }, words: (path + " " + JSON.stringify(described)).toLowerCase() };
}

function draw() {
  document.title = api.info.title + " " + api.info.version + ": reference";
  document.getElementById("title").textContent = api.info.title + " " + api.info.version;
  content.replaceChildren(...prose(api.info.description));
  contents.replaceChildren();
  const entries = [];
  const group = (title, text, items) => {
    if (!items.length) return;
    const list = make("ul", {});
    const parts = [make("h2", { id: "group-" + anchor(title) }, title), ...prose(text)];
    content.append(...parts);
    const head = make("h2", {}, title);
    contents.append(head, list);
    for (const item of items) {
      const link = make("li", {}, make("a", { href: "#" + item.link.id },
        item.link.method ? make("span", { class: "method " + item.link.method }, item.link.method) : null, item.link.text));
      list.append(link);
      content.append(item.node);
      entries.push({ ...item, entry: link });
    }
  };
  const all = Object.entries(api.paths).flatMap(([path, methods]) =>
    METHODS.filter((method) => methods[method]).map((method) => [path, method, methods[method]]));
  const tags = (api.tags || []).map((tag) => tag.name);
  for (const tag of api.tags || []) {
    group(tag.name, tag.description, all.filter(([, , described]) => (described.tags || [])[0] === tag.name)
      .map((one) => operation(...one)));
  }
  group("others", "", all.filter(([, , described]) => !tags.includes((described.tags || [])[0])).map((one) => operation(...one)));
  group("schemas", "", Object.entries((api.components || {}).schemas || {}).map(([name, schema]) => {
    const id = "schema-" + anchor(name);
    const node = make("section", { class: "operation", id, "aria-labelledby": id + "-title" },
      make("h3", { id: id + "-title" }, name), prose(schema.description),
      schema.properties ? properties(schema) : make("p", {}, kind(schema), bounds(schema)));
    return { node, link: { id, text: name }, words: (name + " " + JSON.stringify(schema)).toLowerCase() };
  }));
  filter.addEventListener("input", () => {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const { node, entry, words: text } of entries) {
      node.hidden = entry.hidden = !words.every((word) => text.includes(word));
    }
  });
  content.setAttribute("aria-busy", "false");
  if (location.hash) {
    const target = document.getElementById(location.hash.slice(1));
    if (target) target.scrollIntoView();
  }
}

// "/" goes to the filter; Escape empties it and goes back; "j" and "k" go from one entry to the next.
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target === filter) {
    if (event.key === "Escape") {
      filter.value = "";
      filter.dispatchEvent(new Event("input"));
      content.focus();
    }
    return;
  }
  if (event.key === "/") {
    event.preventDefault();
    filter.focus();
  } else if (event.key === "j" || event.key === "k") {
    const shown = [...document.querySelectorAll("section.operation:not([hidden])")];
    const below = shown.findIndex((one) => one.getBoundingClientRect().top > 90);
    const next = event.key === "j" ? below : (below < 0 ? shown.length : below) - 2;
    if (shown[next]) shown[next].scrollIntoView();
  }
});

fetch("../openapi.json").then((answer) => {
  if (!answer.ok) throw new Error("openapi.json: " + answer.status);
  return answer.json();
}).then((read) => {
  api = read;
  draw();
}).catch((error) => {
  content.replaceChildren(make("p", {}, "The document cannot be read: " + error.message));
  content.setAttribute("aria-busy", "false");
});

// The investigation graph: columns from left to right, drawn as SVG. The data stands in the page as JSON;
// all of it is text from logs and reaches the page as text only, never as HTML.
"use strict";
(function () {
  const SVG = "http://www.w3.org/2000/svg";
  const COLUMNS = ["Alert", "AwsInstance", "AwsPrincipal", "AwsSession", "AwsAccessKey", "IP", "AwsBucket", "AwsObject"];
  const ALSO = { AwsService: "AwsBucket", AwsApi: "AwsObject", AwsAccount: "AwsInstance" };
  const KINDS = {
    Alert: ["!", "#b3261e"], AwsInstance: ["VM", "#9a5b00"], AwsPrincipal: ["id", "#5b3fa8"], AwsSession: ["se", "#7a4fc0"],
    AwsAccessKey: ["key", "#a0660a"], IP: ["ip", "#0b6e75"], AwsBucket: ["S3", "#2a6b2f"], AwsObject: ["obj", "#4d7c1f"],
    AwsService: ["svc", "#4a5568"], AwsApi: ["api", "#4a5568"], AwsAccount: ["acc", "#4a5568"],
  };
  const STEP_X = 158, STEP_Y = 64;

  function part(name, attributes, above, text) {
    const made = document.createElementNS(SVG, name);
    for (const key in attributes) made.setAttribute(key, attributes[key]);
    if (text !== undefined) made.textContent = text;
    if (above) above.appendChild(made);
    return made;
  }
  function html(name, className, above, text) {
    const made = document.createElement(name);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    if (above) above.appendChild(made);
    return made;
  }
  function short(node) {
    if (node.type === "Alert") return node.title || node.name;
    if (node.type === "AwsObject") return node.name.slice(node.name.indexOf("/") + 1);
    if (node.name.startsWith("arn:")) return node.name.slice(node.name.lastIndexOf("/") + 1) || node.name;
    return node.name;
  }
  function cut(text, most) {
    const letters = Array.from(text);
    return letters.length <= most ? text : letters.slice(0, most - 8).join("") + "…" + letters.slice(-7).join("");
  }
  function column(type) {
    const place = COLUMNS.indexOf(ALSO[type] || type);
    return place < 0 ? COLUMNS.length : place;
  }
  function kind(type) { return KINDS[type] || [type.slice(0, 3), "#4a5568"]; }

  function Graph(root, data) {
    this.root = root;
    this.nodes = new Map();
    this.edges = new Map();
    this.expanded = new Map();
    this.open = new Set();
    this.alerts = false;
    this.chosen = null;
    this.view = null;
    for (const node of data.nodes) this.addNode(node, true);
    for (const edge of data.edges) this.addEdge(edge, "");
    for (const each of data.expanded) {
      if (!this.expanded.has(each.node)) this.expanded.set(each.node, []);
      this.expanded.get(each.node).push(each);
    }
    this.frame();
    this.place();
    this.fit();
    this.draw();
  }
  Graph.prototype.addNode = function (node, own) {
    if (!this.nodes.has(node.id)) this.nodes.set(node.id, Object.assign({ own: own, by: new Set(), x: null, y: null }, node));
    return this.nodes.get(node.id);
  };
  Graph.prototype.addEdge = function (edge, by) {
    const id = [edge.source, edge.target, edge.says, by].join("\n");
    if (!this.edges.has(id)) this.edges.set(id, Object.assign({ id: id, by: by }, edge));
  };
  // Which nodes are shown: those of the incident, alerts if asked for, and what an open expansion brings.
  Graph.prototype.shown = function (node) {
    if (!node) return false;
    if (node.type === "Alert" && node.own) return this.alerts;
    if (node.own) return node.type !== "AwsAccount" || this.alerts;
    return Array.from(node.by).some((each) => this.open.has(each));
  };
  Graph.prototype.visibleEdges = function () {
    return Array.from(this.edges.values()).filter((edge) =>
      (edge.by === "" || this.open.has(edge.by)) &&
      this.shown(this.nodes.get(edge.source)) && this.shown(this.nodes.get(edge.target)));
  };
  Graph.prototype.place = function () {
    // Columns by type; in a column the order that keeps a node near its neighbours (two sweeps of means).
    const columns = new Map();
    for (const node of this.nodes.values()) {
      if (!this.shown(node)) continue;
      const at = column(node.type);
      if (!columns.has(at)) columns.set(at, []);
      columns.get(at).push(node);
    }
    const near = new Map();
    for (const edge of this.visibleEdges()) {
      for (const [one, other] of [[edge.source, edge.target], [edge.target, edge.source]]) {
        if (!near.has(one)) near.set(one, []);
        near.get(one).push(other);
      }
    }
    const used = Array.from(columns.keys()).sort((a, b) => a - b);
    used.forEach((at, place) => columns.get(at).forEach((node, row) => {
      if (!node.held) { node.x = place * STEP_X; node.y = (row - (columns.get(at).length - 1) / 2) * STEP_Y; }
    }));
    for (let sweep = 0; sweep < 4; sweep++) {
      for (const at of sweep % 2 ? used.slice().reverse() : used) {
        const own = columns.get(at);
        const mean = new Map(own.map((node) => {
          const around = (near.get(node.id) || []).map((id) => this.nodes.get(id)).filter((n) => column(n.type) !== at);
          return [node.id, around.length ? around.reduce((sum, n) => sum + n.y, 0) / around.length : node.y];
        }));
        own.sort((a, b) => mean.get(a.id) - mean.get(b.id) || (a.id < b.id ? -1 : 1));
        own.forEach((node, row) => { if (!node.held) node.y = (row - (own.length - 1) / 2) * STEP_Y; });
      }
    }
  };
  Graph.prototype.fit = function () {
    const nodes = Array.from(this.nodes.values()).filter((node) => this.shown(node));
    const xs = nodes.map((node) => node.x), ys = nodes.map((node) => node.y);
    const left = Math.min(...xs) - 80, right = Math.max(...xs) + 80;
    const top = Math.min(...ys) - 50, bottom = Math.max(...ys) + 50;
    this.view = { x: left, y: top, width: Math.max(600, right - left), height: Math.max(240, bottom - top) };
    this.setView();
  };
  Graph.prototype.setView = function () {
    const view = this.view;
    this.svg.setAttribute("viewBox", [view.x, view.y, view.width, view.height].join(" "));
  };
  Graph.prototype.frame = function () {
    const bar = html("div", "graph-bar", this.root);
    const label = html("label", "", bar);
    const box = html("input", "", label);
    box.type = "checkbox";
    box.id = "graph-alerts";
    label.appendChild(document.createTextNode(" alerts"));
    box.addEventListener("change", () => { this.alerts = box.checked; this.place(); this.fit(); this.draw(); });
    const whole = html("button", "", bar, "whole graph");
    whole.addEventListener("click", () => { this.fit(); });
    const search = html("input", "graph-search", bar);
    search.type = "search";
    search.placeholder = "find";
    search.setAttribute("aria-label", "find in the graph");
    search.addEventListener("input", () => {
      const text = search.value.toLowerCase();
      const found = text && Array.from(this.nodes.values()).find((n) => this.shown(n) && (n.name + " " + (n.title || "")).toLowerCase().includes(text));
      if (found) this.choose(found);
    });
    const body = html("div", "graph-body", this.root);
    this.svg = part("svg", { class: "graph", role: "img", "aria-label": "investigation graph" }, body);
    const marks = part("defs", {}, this.svg);
    const arrow = part("marker", { id: "arrow", viewBox: "0 0 8 8", refX: 8, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto" }, marks);
    part("path", { d: "M0,0 L8,4 L0,8 z", class: "arrow" }, arrow);
    this.lines = part("g", {}, this.svg);
    this.dots = part("g", {}, this.svg);
    this.panel = html("aside", "graph-panel", body);
    html("p", "dim", this.panel, "Choose a node: what is known of it, and what it can be expanded to.");
    this.pan();
  };
  Graph.prototype.at = function (event) {
    const box = this.svg.getBoundingClientRect();
    const scale = Math.max(this.view.width / box.width, this.view.height / box.height);
    return {
      x: this.view.x + this.view.width / 2 + (event.clientX - box.left - box.width / 2) * scale,
      y: this.view.y + this.view.height / 2 + (event.clientY - box.top - box.height / 2) * scale,
    };
  };
  Graph.prototype.pan = function () {
    let from = null;
    this.svg.addEventListener("pointerdown", (event) => {
      const held = event.target.closest("g.node");
      const node = held && this.nodes.get(held.dataset.id);
      from = { at: this.at(event), node: node, moved: false };
      this.svg.setPointerCapture(event.pointerId);
    });
    this.svg.addEventListener("pointermove", (event) => {
      if (!from) return;
      const to = this.at(event);
      const dx = to.x - from.at.x, dy = to.y - from.at.y;
      if (Math.abs(dx) + Math.abs(dy) > 4) from.moved = true;
      if (!from.moved) return;
      if (from.node) {
        from.node.x = to.x; from.node.y = to.y; from.node.held = true;
        this.draw();
      } else {
        this.view.x -= dx; this.view.y -= dy;
        this.setView();
      }
    });
    this.svg.addEventListener("pointerup", () => {
      if (from && from.node && !from.moved) this.choose(from.node);
      from = null;
    });
    this.svg.addEventListener("wheel", (event) => {
      event.preventDefault();
      const about = this.at(event), by = event.deltaY > 0 ? 1.15 : 1 / 1.15;
      const view = this.view;
      if (view.width * by > 40000 || view.width * by < 120) return;
      view.x = about.x - (about.x - view.x) * by; view.y = about.y - (about.y - view.y) * by;
      view.width *= by; view.height *= by;
      this.setView();
    }, { passive: false });
  };
  Graph.prototype.draw = function () {
    this.lines.replaceChildren();
    this.dots.replaceChildren();
    const pairs = new Map();
    for (const edge of this.visibleEdges()) {
      const pair = [edge.source, edge.target].sort().join("\n");
      const turn = pairs.get(pair) || 0;
      pairs.set(pair, turn + 1);
      this.drawEdge(edge, turn);
    }
    for (const node of this.nodes.values()) if (this.shown(node)) this.drawNode(node);
  };
  Graph.prototype.drawEdge = function (edge, turn) {
    const a = this.nodes.get(edge.source), b = this.nodes.get(edge.target);
    const dotted = a.type === "Alert" || b.type === "Alert";
    const group = part("g", { class: "edge" + (dotted ? " dotted" : "") + (edge.by ? " more" : "") }, this.lines);
    const sideways = Math.abs(b.x - a.x) > 60;
    const towards = b.x >= a.x ? 1 : -1;
    const sx = sideways ? a.x + 18 * towards : a.x + 18, ex = sideways ? b.x - 20 * towards : b.x + 20;
    const bend = turn * 14 * (turn % 2 ? 1 : -1);
    const mx = sideways ? (sx + ex) / 2 : Math.max(a.x, b.x) + 60 + turn * 20, my = (a.y + b.y) / 2 + bend;
    const path = sideways
      ? `M${sx},${a.y} C${mx},${a.y + bend} ${mx},${b.y + bend} ${ex},${b.y}`
      : `M${sx},${a.y} C${mx},${a.y} ${mx},${b.y} ${ex},${b.y}`;
    part("path", { d: path, "marker-end": "url(#arrow)" }, group);
    if (!dotted) {
      // Nearer to where it leads: half way it would stand on the name of the node it comes from.
      const x = sideways ? 0.02 * sx + 0.61 * mx + 0.37 * ex : mx - 12;
      const y = sideways ? 0.19 * a.y + 0.81 * b.y + bend : my;
      const text = part("text", { x: x, y: y - 4 }, group, cut(this.says(edge), 22));
      text.setAttribute("text-anchor", "middle");
    }
    const when = edge.first ? " " + edge.first + (edge.last !== edge.first ? " to " + edge.last : "") : "";
    part("title", {}, group, this.says(edge) + when);
  };
  Graph.prototype.says = function (edge) {
    const times = edge.count > 1 && !/ x\d/.test(edge.says) ? " ×" + edge.count.toLocaleString("en") : "";
    const bytes = edge.bytes ? ", " + edge.bytes.toLocaleString("en") + " B" : "";
    return edge.says + times + bytes;
  };
  Graph.prototype.drawNode = function (node) {
    const [mark, colour] = kind(node.type);
    const group = part("g", { class: "node" + (node === this.chosen ? " chosen" : "") + (node.own ? "" : " more"), tabindex: 0, role: "button" }, this.dots);
    group.dataset.id = node.id;
    group.setAttribute("transform", `translate(${node.x},${node.y})`);
    part("circle", { r: 17, fill: colour }, group);
    part("text", { class: "mark", y: 4, "text-anchor": "middle" }, group, mark);
    part("text", { class: "name", y: 31, "text-anchor": "middle" }, group, cut(short(node), 24));
    const more = (this.expanded.get(node.id) || []).filter((each) => !this.open.has(each.id)).length;
    if (more) {
      part("circle", { class: "plus", r: 7, cx: 14, cy: -13 }, group);
      part("text", { class: "plus", x: 14, y: -9, "text-anchor": "middle" }, group, String(more));
    }
    part("title", {}, group, node.type + " " + node.name);
    group.addEventListener("keydown", (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); this.choose(node); } });
  };
  Graph.prototype.choose = function (node) {
    this.chosen = node;
    this.draw();
    this.panel.replaceChildren();
    html("p", "dim", this.panel, node.type);
    html("h3", "", this.panel, node.type === "Alert" ? node.title || node.name : node.name);
    if (node.facts && node.facts.length) {
      const list = html("dl", "", this.panel);
      for (const [name, value] of node.facts) { html("dt", "", list, name); html("dd", "", list, value); }
    }
    const offers = this.expanded.get(node.id) || [];
    if (offers.length) html("h4", "", this.panel, "Expand");
    for (const each of offers) {
      const row = html("div", "offer", this.panel);
      const button = html("button", "expand" + (this.open.has(each.id) ? " open" : ""), row, each.title + " (" + (each.nodes.length + each.left_out) + ")");
      button.dataset.expansion = each.id;
      button.addEventListener("click", () => this.toggle(each, node));
      const details = html("details", "", row);
      html("summary", "dim", details, "KQL");
      html("pre", "", details, each.query);
      if (each.left_out) html("div", "dim", row, each.left_out.toLocaleString("en") + " more are not drawn; the query lists them");
    }
    const edges = this.visibleEdges().filter((edge) => edge.source === node.id || edge.target === node.id);
    if (edges.length) {
      const list = html("ul", "graph-edges", this.panel);
      for (const edge of edges.slice(0, 40)) {
        const other = this.nodes.get(edge.source === node.id ? edge.target : edge.source);
        const line = html("li", "", list);
        html("span", "", line, (edge.source === node.id ? "→ " : "← ") + this.says(edge) + " · " + cut(short(other), 60));
        if (edge.first) html("div", "dim", line, edge.first + (edge.last !== edge.first ? " to " + edge.last : ""));
      }
    }
    if (!offers.length && node.type !== "Alert") html("p", "dim", this.panel, "Nothing more is known of it around this time.");
  };
  Graph.prototype.toggle = function (each, from) {
    if (this.open.has(each.id)) {
      this.open.delete(each.id);
    } else {
      this.open.add(each.id);
      for (const node of each.nodes) this.addNode(node, false).by.add(each.id);
      for (const edge of each.edges) this.addEdge(edge, each.id);
    }
    this.place();
    this.fit();
    this.choose(from);
  };

  for (const root of document.querySelectorAll("[data-graph]")) {
    const data = JSON.parse(document.getElementById(root.dataset.graph).textContent);
    root.replaceChildren();
    new Graph(root, data);
  }
  for (const button of document.querySelectorAll("button[data-copy]")) {
    button.hidden = false;
    button.addEventListener("click", () => {
      const text = document.getElementById(button.dataset.copy).textContent;
      navigator.clipboard.writeText(text).then(() => { button.textContent = "copied"; }, () => { button.textContent = "not allowed here"; });
    });
  }
})();

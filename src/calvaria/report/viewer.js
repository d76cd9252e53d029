/* The viewer inside a design's report: meshes drawn by WebGL, turned by mouse, finger or keyboard. No library, no network.
 * What it shows stands in the page's element "design-data"; see calvaria.report.design_mesh. */
(function () {
  "use strict";
  var root = document.getElementById("viewer");
  var canvas = document.getElementById("viewer-canvas");
  var data = JSON.parse(document.getElementById("design-data").textContent);

  function fail(why) {
    root.classList.add("off");
    document.getElementById("viewer-off").textContent =
      "The figure cannot be turned here (" + why + "): see the pictures below.";
  }

  var gl = null;
  var options = { antialias: true, preserveDrawingBuffer: false };
  try { gl = canvas.getContext("webgl2", options) || canvas.getContext("webgl", options); } catch (error) { gl = null; }
  if (!gl) { fail("this browser has no WebGL"); return; }
  var wide = typeof WebGL2RenderingContext !== "undefined" && gl instanceof WebGL2RenderingContext;
  if (!wide && !gl.getExtension("OES_element_index_uint")) { fail("its WebGL is too old"); return; }

  var VERTEX = [
    "attribute vec3 place; attribute vec3 normal; attribute vec3 colour;",
    "uniform mat3 turn; uniform vec3 scale; uniform vec3 low; uniform vec3 middle; uniform vec3 shift;",
    "uniform vec2 zoom; uniform vec2 pan; uniform float depth;",
    "varying vec3 n; varying vec3 c; varying float away;",
    "void main() {",
    "  vec3 p = turn * (low + place * scale + shift - middle);", // right, down, away
    "  n = turn * normal; c = colour; away = p.z / depth;",
    "  gl_Position = vec4((p.x - pan.x) * zoom.x, -(p.y - pan.y) * zoom.y, away, 1.0);",
    "}"].join("\n");
  var FRAGMENT = [
    "precision mediump float;",
    "varying vec3 n; varying vec3 c; varying float away;",
    "void main() {",
    "  vec3 m = normalize(n); if (!gl_FrontFacing) m = -m;",
    "  vec3 lamp = normalize(vec3(-0.42, -0.62, -0.66));",
    "  float main_light = clamp((dot(lamp, m) + 0.25) / 1.25, 0.0, 1.0);",
    "  float sheen = pow(max(dot(normalize(lamp + vec3(0.0, 0.0, -1.0)), m), 0.0), 24.0);",
    "  float light = 0.2 + 0.5 * main_light + 0.36 * max(-m.z, 0.0);",
    "  light *= 1.0 - 0.25 * clamp(away + 0.3, 0.0, 1.0);",
    "  gl_FragColor = vec4(c * light + 0.08 * sheen, 1.0);",
    "}"].join("\n");

  function shader(kind, source) {
    var made = gl.createShader(kind);
    gl.shaderSource(made, source);
    gl.compileShader(made);
    if (!gl.getShaderParameter(made, gl.COMPILE_STATUS)) { throw new Error(gl.getShaderInfoLog(made)); }
    return made;
  }
  var program = gl.createProgram();
  try {
    gl.attachShader(program, shader(gl.VERTEX_SHADER, VERTEX));
    gl.attachShader(program, shader(gl.FRAGMENT_SHADER, FRAGMENT));
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS)) { throw new Error(gl.getProgramInfoLog(program)); }
  } catch (error) { fail("its WebGL refuses the shaders"); return; }
  gl.useProgram(program);
  var at = {};
  ["place", "normal", "colour"].forEach(function (name) {
    at[name] = gl.getAttribLocation(program, name);
    gl.enableVertexAttribArray(at[name]);
  });
  ["turn", "scale", "low", "middle", "shift", "zoom", "pan", "depth"].forEach(function (name) {
    at[name] = gl.getUniformLocation(program, name);
  });

  function bytes(text) {
    var raw = atob(text), found = new Uint8Array(raw.length);
    for (var i = 0; i < raw.length; i++) { found[i] = raw.charCodeAt(i); }
    return found;
  }
  function filled(target, array) {
    var buffer = gl.createBuffer();
    gl.bindBuffer(target, buffer);
    gl.bufferData(target, array, gl.STATIC_DRAW);
    return buffer;
  }

  /* Colours of the bytes of a map: 0 is no value, 1 to 255 go from the scale's low to its high end. */
  function palette(scale) {
    var table = new Uint8Array(256 * 3), stops = scale.values, last = stops.length - 1;
    for (var k = 0; k < 3; k++) { table[k] = data.unknown[k]; }
    for (var b = 1; b < 256; b++) {
      var value = stops[0] + (stops[last] - stops[0]) * (b - 1) / 254, i = 0;
      while (i < last - 1 && value > stops[i + 1]) { i++; }
      var share = Math.min(Math.max((value - stops[i]) / (stops[i + 1] - stops[i]), 0), 1);
      for (k = 0; k < 3; k++) {
        table[3 * b + k] = scale.colours[i][k] + share * (scale.colours[i + 1][k] - scale.colours[i][k]);
      }
    }
    return table;
  }
  var palettes = {};
  Object.keys(data.scales).forEach(function (name) { palettes[name] = palette(data.scales[name]); });

  var meshes = data.meshes.map(function (given) {
    var index = bytes(given.faces), places = bytes(given.places);
    var count = places.length / 6;
    var mesh = {
      layer: given.layer, part: given.part, direction: given.direction,
      places: filled(gl.ARRAY_BUFFER, places), normals: filled(gl.ARRAY_BUFFER, bytes(given.normals)),
      faces: filled(gl.ELEMENT_ARRAY_BUFFER, index), size: index.length / given.width,
      kind: given.width === 2 ? gl.UNSIGNED_SHORT : gl.UNSIGNED_INT, colours: {}
    };
    var own = new Uint8Array(count * 3);
    for (var i = 0; i < own.length; i++) { own[i] = given.colour[i % 3]; }
    mesh.colours.own = filled(gl.ARRAY_BUFFER, own);
    Object.keys(given.maps).forEach(function (name) {
      var values = bytes(given.maps[name]), table = palettes[name], coloured = new Uint8Array(count * 3);
      for (var v = 0; v < count; v++) {
        for (var k = 0; k < 3; k++) { coloured[3 * v + k] = table[3 * values[v] + k]; }
      }
      mesh.colours[name] = filled(gl.ARRAY_BUFFER, coloured);
    });
    return mesh;
  });

  /* How it is looked at: rows of turn are right, down and away from the viewer, in the world (LPS). */
  var state = {};
  function reset() {
    state.turn = data.view.slice();
    state.span = data.span;
    state.pan = [0, 0];
  }
  reset();
  var shown = { map: "own", exploded: 0 };
  var asked = false;
  function redraw() {
    if (!asked) { asked = true; window.requestAnimationFrame(draw); }
  }

  function draw() {
    asked = false;
    var ratio = window.devicePixelRatio || 1;
    var width = Math.max(Math.round(canvas.clientWidth * ratio), 1);
    var height = Math.max(Math.round(canvas.clientHeight * ratio), 1);
    if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
    gl.viewport(0, 0, width, height);
    gl.clearColor(22 / 255, 24 / 255, 29 / 255, 1);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    gl.enable(gl.DEPTH_TEST);
    var t = state.turn, half = state.span / 2, shorter = Math.min(width, height);
    gl.uniformMatrix3fv(at.turn, false, [t[0], t[3], t[6], t[1], t[4], t[7], t[2], t[5], t[8]]);
    gl.uniform3fv(at.low, data.low);
    gl.uniform3fv(at.scale, data.size);
    gl.uniform3fv(at.middle, data.middle);
    gl.uniform2f(at.zoom, shorter / width / half, shorter / height / half);
    gl.uniform2fv(at.pan, state.pan);
    gl.uniform1f(at.depth, data.depth);
    meshes.forEach(function (mesh) {
      var box = document.getElementById("layer-" + (mesh.layer === "bone" ? "bone" : "part-" + mesh.part));
      if (box && !box.checked) { return; }
      var d = mesh.direction;
      gl.uniform3f(at.shift, -d[0] * shown.exploded, -d[1] * shown.exploded, -d[2] * shown.exploded);
      gl.bindBuffer(gl.ARRAY_BUFFER, mesh.places);
      gl.vertexAttribPointer(at.place, 3, gl.UNSIGNED_SHORT, true, 6, 0);
      gl.bindBuffer(gl.ARRAY_BUFFER, mesh.normals);
      gl.vertexAttribPointer(at.normal, 3, gl.BYTE, true, 4, 0);
      gl.bindBuffer(gl.ARRAY_BUFFER, mesh.colours[shown.map] || mesh.colours.own);
      gl.vertexAttribPointer(at.colour, 3, gl.UNSIGNED_BYTE, true, 3, 0);
      gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, mesh.faces);
      gl.drawElements(gl.TRIANGLES, mesh.size, mesh.kind, 0);
    });
    words(Math.min(canvas.clientWidth, canvas.clientHeight) / state.span);
  }

  /* Anatomical letters at the four sides, and a ruler: the projection is parallel, so it holds everywhere. */
  var LETTERS = [["L", "R"], ["P", "A"], ["S", "I"]];
  function letter(row, sign) {
    var best = 0, found = [0, 0, 0];
    for (var k = 0; k < 3; k++) { // in the frame of the head
      for (var j = 0; j < 3; j++) { found[k] += data.axes[3 * j + k] * state.turn[3 * row + j] * sign; }
      if (Math.abs(found[k]) > Math.abs(found[best])) { best = k; }
    }
    return Math.abs(found[best]) < 0.8 ? "" : LETTERS[best][found[best] > 0 ? 0 : 1];
  }
  function words(pxPerMm) {
    [["right", 0, 1], ["left", 0, -1], ["bottom", 1, 1], ["top", 1, -1]].forEach(function (side) {
      document.getElementById("side-" + side[0]).textContent = letter(side[1], side[2]);
    });
    var length = [100, 50, 20, 10, 5, 2, 1].filter(function (mm) { return mm * pxPerMm <= 130; })[0] || 1;
    document.getElementById("ruler").style.width = length * pxPerMm + "px";
    document.getElementById("ruler-mm").textContent = length + " mm";
  }

  function turned(across, down) { // angles in radians, about the picture's own axes
    var a = state.turn, c = Math.cos(across), s = Math.sin(across), b = [];
    for (var k = 0; k < 3; k++) { b[k] = c * a[k] + s * a[6 + k]; b[6 + k] = -s * a[k] + c * a[6 + k]; b[3 + k] = a[3 + k]; }
    c = Math.cos(down); s = Math.sin(down);
    for (k = 0; k < 3; k++) { var y = b[3 + k], z = b[6 + k]; b[3 + k] = c * y + s * z; b[6 + k] = -s * y + c * z; }
    state.turn = b;
    redraw();
  }
  function zoomed(factor) {
    state.span = Math.min(Math.max(state.span * factor, 10), 4 * data.span);
    redraw();
  }
  function panned(dx, dy) {
    var mm = state.span / Math.min(canvas.clientWidth, canvas.clientHeight);
    state.pan = [state.pan[0] - dx * mm, state.pan[1] - dy * mm];
    redraw();
  }

  var fingers = new Map();
  function apart() {
    var two = Array.from(fingers.values());
    return Math.hypot(two[0].x - two[1].x, two[0].y - two[1].y);
  }
  canvas.addEventListener("pointerdown", function (event) {
    canvas.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
  });
  canvas.addEventListener("pointermove", function (event) {
    var last = fingers.get(event.pointerId);
    if (!last) { return; }
    var dx = event.clientX - last.x, dy = event.clientY - last.y;
    var before = fingers.size === 2 ? apart() : 0;
    fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    if (fingers.size === 2) {
      zoomed(before / Math.max(apart(), 1));
      panned(dx / 2, dy / 2);
    } else if (event.shiftKey || event.buttons === 2 || event.buttons === 4) {
      panned(dx, dy);
    } else {
      turned(-dx * 0.008, -dy * 0.008);
    }
  });
  ["pointerup", "pointercancel"].forEach(function (name) {
    canvas.addEventListener(name, function (event) { fingers.delete(event.pointerId); });
  });
  canvas.addEventListener("contextmenu", function (event) { event.preventDefault(); });
  canvas.addEventListener("wheel", function (event) {
    event.preventDefault();
    zoomed(Math.exp(Math.sign(event.deltaY) * Math.min(Math.abs(event.deltaY), 60) * 0.003));
  }, { passive: false });
  canvas.addEventListener("keydown", function (event) {
    var step = 0.12, keys = {
      ArrowLeft: function () { turned(step, 0); }, ArrowRight: function () { turned(-step, 0); },
      ArrowUp: function () { turned(0, step); }, ArrowDown: function () { turned(0, -step); },
      "+": function () { zoomed(1 / 1.15); }, "=": function () { zoomed(1 / 1.15); },
      "-": function () { zoomed(1.15); }, Home: function () { reset(); redraw(); }
    };
    if (keys[event.key]) { event.preventDefault(); keys[event.key](); }
  });

  root.querySelectorAll("input[type=checkbox]").forEach(function (box) { box.addEventListener("change", redraw); });
  root.querySelectorAll("input[name=map]").forEach(function (choice) {
    choice.addEventListener("change", function () {
      if (!choice.checked) { return; }
      shown.map = choice.value;
      root.querySelectorAll(".bar").forEach(function (bar) { bar.hidden = bar.id !== "bar-" + shown.map; });
      redraw();
    });
  });
  var slider = document.getElementById("exploded");
  slider.addEventListener("input", function () {
    shown.exploded = Number(slider.value);
    document.getElementById("exploded-mm").textContent = slider.value + " mm";
    redraw();
  });
  document.getElementById("viewer-reset").addEventListener("click", function () {
    reset();
    slider.value = 0;
    slider.dispatchEvent(new Event("input"));
    redraw();
  });
  canvas.addEventListener("webglcontextlost", function (event) { event.preventDefault(); fail("its graphics stopped"); });
  if (window.ResizeObserver) { new ResizeObserver(redraw).observe(canvas); }
  window.addEventListener("resize", redraw);
  redraw();
})();

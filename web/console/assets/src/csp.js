// xterm.js writes <style> elements and style attributes, both of which the page's
// Content-Security-Policy forbids. The CSS object model, which no policy limits,
// can say the same: style elements become constructed style sheets, and style
// attributes are set through element.style. Imported before xterm.js is used.

const createElement = document.createElement.bind(document);

document.createElement = (name, options) => (name === "style" ? sheetElement() : createElement(name, options));

// sheetElement stands in for a <style>: what is written into it applies to the
// document until it is removed.
function sheetElement() {
  const e = createElement("template");
  const sheet = new CSSStyleSheet();
  const write = (css) => sheet.replaceSync(css);
  for (const property of ["textContent", "innerText", "innerHTML"]) {
    Object.defineProperty(e, property, { get: () => "", set: write });
  }
  e.remove = () => {
    document.adoptedStyleSheets = document.adoptedStyleSheets.filter((s) => s !== sheet);
    Element.prototype.remove.call(e);
  };
  document.adoptedStyleSheets = [...document.adoptedStyleSheets, sheet];
  return e;
}

const setAttribute = Element.prototype.setAttribute;

HTMLElement.prototype.setAttribute = function (name, value) {
  if (name === "style") this.style.cssText = value;
  else setAttribute.call(this, name, value);
};

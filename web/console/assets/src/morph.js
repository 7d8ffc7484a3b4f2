// morph turns the children of one element into those of another and touches only
// what differs: focus, scroll positions and selections elsewhere stay.
export function morph(from, to) {
  const wanted = [...to.childNodes];
  for (const [i, node] of wanted.entries()) {
    const here = from.childNodes[i];
    const kept = match(from, i, node);
    if (!kept) {
      from.insertBefore(node.cloneNode(true), here ?? null);
      continue;
    }
    if (kept !== here) from.insertBefore(kept, here ?? null);
    update(kept, node);
  }
  while (from.childNodes.length > wanted.length) from.lastChild.remove();
}

// match finds the child, from the i-th on, that stands for the same thing.
function match(from, i, node) {
  if (node.id) {
    const e = [...from.children].find((c) => c.id === node.id);
    return e?.nodeName === node.nodeName ? e : null;
  }
  const here = from.childNodes[i];
  return here && here.nodeName === node.nodeName && !here.id ? here : null;
}

function update(here, node) {
  if (here.isEqualNode(node)) return;
  if (here.nodeType !== Node.ELEMENT_NODE) {
    here.nodeValue = node.nodeValue;
    return;
  }
  for (const { name } of [...here.attributes]) if (!node.hasAttribute(name)) here.removeAttribute(name);
  for (const { name, value } of node.attributes) if (here.getAttribute(name) !== value) here.setAttribute(name, value);
  morph(here, node);
}

"use strict";
/**
 * The data of a study, loaded when wanted. A page that is opened from disk may load scripts and nothing else, so each
 * pack is a script that hands over gzip in base64; `jobs/explore.py` writes them.
 */
const Data = (() => {
  const TYPES = {
    uint8: Uint8Array, uint16: Uint16Array, uint32: Uint32Array, int32: Int32Array, float32: Float32Array,
  };
  const arrived = new Map();
  const held = new Map();

  async function unpack(text) {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    const buffer = await new Response(stream).arrayBuffer();
    const length = new DataView(buffer).getUint32(0, true);
    const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
    const found = header.values;
    for (const [name, array] of Object.entries(header.arrays)) {
      found[name] = new TYPES[array.dtype](buffer, array.offset, array.size);
    }
    return found;
  }

  function fetched(path, address) {
    return new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = address;
      script.onload = () => {
        script.remove();
        const text = arrived.get(path);
        arrived.delete(path);
        if (text === undefined) reject(new Error(`${address} holds other data; write the report again`));
        else resolve(text);
      };
      script.onerror = () => reject(new Error(`${address} is missing; copy the whole folder of the explorer`));
      document.head.append(script);
    });
  }

  /** A pack by its path, such as load("colap", "base", "encoder", "de+en"); each is fetched once. */
  function load(...parts) {
    const path = parts.join("/");
    if (!held.has(path)) {
      const address = `data/${parts.map(encodeURIComponent).join("/")}.js`;
      const found = fetched(path, address).then(unpack);
      found.catch(() => held.delete(path));
      held.set(path, found);
    }
    return held.get(path);
  }

  return { load, receive: (path, text) => arrived.set(path, text) };
})();

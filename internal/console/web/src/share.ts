// A link that holds a whole example: compressed, in the fragment, which a browser sends to no server.
export interface Example {
  workspace?: string;
  placements: Record<string, string>;
  modules: Record<string, string>;
  /** All other objects, as YAML; without them the example is about the workspace that the console shows. */
  objects?: string;
}

export async function pack(example: Example): Promise<string> {
  const stream = new Blob([JSON.stringify(example)]).stream().pipeThrough(new CompressionStream("deflate-raw"));
  const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
  let text = "";
  for (const b of bytes) text += String.fromCharCode(b);
  return btoa(text).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

/** The most that a link may unpack to: what is larger is no example but an attack. */
const largest = 4 << 20;

export async function unpack(packed: string): Promise<Example> {
  const text = atob(packed.replaceAll("-", "+").replaceAll("_", "/"));
  const bytes = Uint8Array.from(text, (c) => c.charCodeAt(0));
  const reader = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate-raw")).getReader();
  const chunks: Uint8Array<ArrayBuffer>[] = [];
  for (let size = 0; ; ) {
    const { value, done } = await reader.read();
    if (done) break;
    size += value.length;
    if (size > largest) throw new Error("The example in the link is too large.");
    chunks.push(value as Uint8Array<ArrayBuffer>);
  }
  const example = JSON.parse(await new Blob(chunks).text());
  const texts = (of: unknown) => Object.fromEntries(Object.entries(Object(of)).filter((e): e is [string, string] => typeof e[1] === "string"));
  return {
    placements: texts(example.placements),
    modules: texts(example.modules),
    workspace: typeof example.workspace === "string" ? example.workspace : undefined,
    objects: typeof example.objects === "string" ? example.objects : undefined,
  };
}

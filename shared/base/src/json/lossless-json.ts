import { isObject } from './plain-object.ts';

/** JSON whose numbers keep the text that they had, so that reading and writing changes nothing that was not edited. */
export type JsonObject = Record<string, unknown>;

interface RawJson {
  rawJSON(text: string): object;
}

/** Parses JSON; numbers that a double cannot hold as written become opaque and are written as they were. @throws {SyntaxError} */
function parseLossless(text: string): unknown {
  const reviver = (_key: string, value: unknown, context: { source?: string }): unknown =>
    typeof value === 'number' && context.source !== undefined && String(value) !== context.source
      ? (JSON as unknown as RawJson).rawJSON(context.source)
      : value;
  // TypeScript's library does not know the third argument yet (ECMAScript, "JSON.parse source text access").
  return (JSON.parse as (text: string, reviver: unknown) => unknown)(text, reviver);
}

/** The object of these bytes, or undefined where they are no JSON object. */
export function parseObject(bytes: Uint8Array): JsonObject | undefined {
  let value: unknown;
  try {
    value = parseLossless(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (error) {
    if (
      error instanceof SyntaxError ||
      (error as NodeJS.ErrnoException).code === 'ERR_ENCODING_INVALID_ENCODED_DATA'
    )
      return undefined;
    throw error;
  }
  return isObject(value) ? value : undefined;
}

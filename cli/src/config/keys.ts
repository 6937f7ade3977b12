import { z } from 'zod';

/** One key of a config schema, with what a reader wants to know of it. */
export interface ConfigKey {
  readonly name: string;
  readonly description: string;
  readonly isRequired: boolean;
  /** What it is without being set; undefined when it has no default. */
  readonly fallback: unknown;
  /** What may be written, in words. */
  readonly values: string;
  /** Keys inside: of a section, or of one entry of a list of sections. */
  readonly children: readonly ConfigKey[];
  readonly isList: boolean;
  /** Its children stand below names that the writer chooses. */
  readonly isMap: boolean;
}

interface Shape {
  readonly type?: string | readonly string[];
  readonly description?: string;
  readonly default?: unknown;
  readonly enum?: readonly unknown[];
  readonly const?: unknown;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly properties?: Readonly<Record<string, Shape>>;
  readonly required?: readonly string[];
  readonly items?: Shape;
  readonly anyOf?: readonly Shape[];
  readonly additionalProperties?: boolean | Shape;
  /** What a size or a duration may be, in words. */
  readonly range?: string;
}

/** The keys of a schema, in the order in which it has them. */
export function configKeys(schema: z.ZodType): readonly ConfigKey[] {
  return keysOf(z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' }) as Shape);
}

function keysOf(shape: Shape): readonly ConfigKey[] {
  return Object.entries(shape.properties ?? {}).map(([name, child]) => {
    const isList = child.type === 'array';
    const isMap = typeof child.additionalProperties === 'object';
    const inner = isList ? (child.items ?? {}) : isMap ? (child.additionalProperties as Shape) : child;
    return {
      name,
      description: child.description ?? '',
      isRequired: shape.required?.includes(name) ?? false,
      fallback: child.default,
      values: valuesOf(child),
      children: keysOf(inner),
      isList,
      isMap,
    };
  });
}

function valuesOf(shape: Shape): string {
  if (shape.enum !== undefined) return shape.enum.map(String).join(', ');
  if (shape.const !== undefined) return String(shape.const);
  if (shape.type === 'array') return `list of ${valuesOf(shape.items ?? {})}`;
  if (shape.anyOf?.some((one) => one.const !== undefined)) return shape.anyOf.map(valuesOf).join(', ');
  if (shape.anyOf !== undefined) return `size${shape.range ?? ''}`;
  if (Array.isArray(shape.type)) return `duration${shape.range ?? ''}`;
  if (shape.type === 'object') return mapOf(shape.additionalProperties) ?? 'section';
  if (shape.type === 'integer' || shape.type === 'number')
    return `${shape.type === 'integer' ? 'whole number' : 'number'}${rangeOf(shape)}`;
  return shape.type === 'boolean' ? 'true, false' : 'text';
}

/** What stands below names that the writer chooses; undefined where the keys are known. */
function mapOf(inner: Shape['additionalProperties']): string | undefined {
  if (typeof inner !== 'object') return undefined;
  return inner.type === 'object' ? 'map of sections' : `map of ${valuesOf(inner)}`;
}

function rangeOf({ minimum, maximum }: Shape): string {
  const isBound = (value: number | undefined): value is number =>
    value !== undefined && Math.abs(value) < Number.MAX_SAFE_INTEGER;
  if (isBound(minimum) && isBound(maximum)) return ` from ${minimum} to ${maximum}`;
  return isBound(minimum) ? ` from ${minimum}` : '';
}

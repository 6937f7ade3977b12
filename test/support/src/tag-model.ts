import { checkLinearizable, type Operation, type SequentialModel } from './linearizable.ts';

/** What clients do with one tag. `put` is a push under `immutable`: it only sets what is not there. */
export type TagInput =
  | { readonly type: 'set'; readonly digest: string }
  | { readonly type: 'put'; readonly digest: string }
  | { readonly type: 'remove' }
  | { readonly type: 'drop'; readonly seen: string }
  | { readonly type: 'read' };

/** What they were told. `value`: the digest that a read saw, '' for none. */
export type TagOutput =
  | { readonly type: 'done' }
  | { readonly type: 'refused' }
  | { readonly type: 'changed'; readonly changed: boolean }
  | { readonly type: 'value'; readonly value: string };

export type TagOperation = Operation<TagInput, TagOutput> & { readonly tag: string };

/** A tag: the digest that it points at, '' for none. */
export const TAG_MODEL: SequentialModel<string, TagInput, TagOutput> = {
  initial: '',
  step(state, input, output) {
    switch (input.type) {
      case 'read':
        return output === undefined || (output.type === 'value' && output.value === state)
          ? state
          : undefined;
      case 'set':
        return input.digest;
      case 'put': {
        const isRefused = state !== '' && state !== input.digest;
        if (output !== undefined && (output.type === 'refused') !== isRefused) return undefined;
        return isRefused ? state : input.digest;
      }
      case 'remove':
      case 'drop': {
        const changes = input.type === 'remove' ? state !== '' : state === input.seen;
        if (output?.type === 'changed' && output.changed !== changes) return undefined;
        return changes ? '' : state;
      }
    }
  },
};

/**
 * Why a history of several tags is not linearizable, or undefined if it is. Each tag is an object of its own.
 * @throws if the search is too long to decide
 */
export function findTagAnomaly(history: readonly TagOperation[]): string | undefined {
  for (const tag of new Set(history.map((one) => one.tag))) {
    const verdict = checkLinearizable(withoutIdle(history.filter((one) => one.tag === tag)), TAG_MODEL);
    if (!verdict.ok)
      return `${tag}: after ${verdict.order.map(operationText).join(', ') || 'nothing'} none of ${verdict.stuck.map(operationText).join(', ')} can come`;
  }
  return undefined;
}

/**
 * Without what decides nothing: reads without an answer, and sets without one whose digest nobody saw. Such a set may be
 * taken out of any order, as long as all other answers depend on digests that were read: each of them makes the search
 * several times as long.
 */
function withoutIdle(history: readonly TagOperation[]): readonly TagOperation[] {
  const dependsOnAnySet = history.some(
    ({ input, output }) => input.type === 'put' || input.type === 'drop' || output?.type === 'changed',
  );
  const read = new Set(history.map(({ output }) => (output?.type === 'value' ? output.value : undefined)));
  return history.filter(({ input, output }) => {
    if (output !== undefined) return true;
    return input.type !== 'read' && (input.type !== 'set' || dependsOnAnySet || read.has(input.digest));
  });
}

function operationText(one: Operation<TagInput, TagOutput>): string {
  const { input, output } = one;
  const asked = 'digest' in input ? `(${input.digest})` : 'seen' in input ? `(${input.seen})` : '()';
  return `${one.client} ${input.type}${asked} → ${output === undefined ? '?' : JSON.stringify(output)}`;
}

import { throwIfBug } from '@sepia/base/failure';
import type { Dispatcher } from '@sepia/http/sockets';
import { request } from 'undici';
import { PROBE_MS } from '../deadlines.ts';

/** Whether `/readyz` of an admin listener answers 200 within 2 s. */
export async function isReady(adminUrl: string, dispatcher: Dispatcher): Promise<boolean> {
  return (await probe(adminUrl, dispatcher)) === 'ready';
}

/** `ready`, or in one phrase why not. */
export async function probe(adminUrl: string, dispatcher: Dispatcher): Promise<string> {
  return (await probeMember(adminUrl, dispatcher)).state;
}

/** As {@link probe}, with what a ready member warns of. */
export async function probeMember(
  adminUrl: string,
  dispatcher: Dispatcher,
): Promise<{ readonly state: string; readonly warnings: readonly string[] }> {
  try {
    const answer = await request(`${adminUrl}/readyz`, {
      dispatcher,
      signal: AbortSignal.timeout(PROBE_MS),
    });
    const text = (await answer.body.text()).trim();
    if (answer.statusCode !== 200) return { state: `not ready: ${text.slice(0, 200)}`, warnings: [] };
    const warnings = text.split('\n').filter((line) => line.startsWith('warning: '));
    return { state: 'ready', warnings: warnings.map((line) => line.slice('warning: '.length, 200)) };
  } catch (error) {
    throwIfBug(error);
    const state = (error as Error).name === 'TimeoutError' ? 'does not answer' : 'not there';
    return { state, warnings: [] };
  }
}

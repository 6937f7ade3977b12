import { throwIfBug } from '@sepia/base/failure';
import type { Dispatcher } from '@sepia/http/sockets';
import { request } from 'undici';

const PROBE_TIMEOUT_MS = 2_000;

/** Whether `/readyz` of an admin listener answers 200 within 2 s. */
export async function isReady(adminUrl: string, dispatcher: Dispatcher): Promise<boolean> {
  return (await probe(adminUrl, dispatcher)) === 'ready';
}

/** `ready`, or in one phrase why not. */
export async function probe(adminUrl: string, dispatcher: Dispatcher): Promise<string> {
  try {
    const answer = await request(`${adminUrl}/readyz`, {
      dispatcher,
      signal: AbortSignal.timeout(PROBE_TIMEOUT_MS),
    });
    const text = (await answer.body.text()).trim().slice(0, 200);
    return answer.statusCode === 200 ? 'ready' : `not ready: ${text}`;
  } catch (error) {
    throwIfBug(error);
    return (error as Error).name === 'TimeoutError' ? 'does not answer' : 'not there';
  }
}

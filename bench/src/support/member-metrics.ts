import { throwIfBug } from '@sepia/base/failure';
import type { UpMember } from '@sepia/test-support/up';
import { request } from 'undici';

/** Bytes that an origin took from upstreams so far. */
export async function upstreamBytes({ adminUrl }: Pick<UpMember, 'adminUrl'>): Promise<number> {
  return await metricSum(adminUrl, 'sepia_origin_upstream_bytes_total');
}

/** Whether a member says that it is ready. */
export async function isReady({ adminUrl }: Pick<UpMember, 'adminUrl'>): Promise<boolean> {
  try {
    const answer = await request(`${adminUrl}/readyz`);
    await answer.body.dump();
    return answer.statusCode === 200;
  } catch (error) {
    throwIfBug(error);
    return false;
  }
}

/** A metric of a member, summed over its labels; 0 where it is not there. */
export async function metricSum(adminUrl: string, name: string): Promise<number> {
  const text = await (await fetch(`${adminUrl}/metrics`)).text();
  return text
    .split('\n')
    .filter((line) => line.startsWith(`${name}{`) || line.startsWith(`${name} `))
    .reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' ') + 1)), 0);
}

import { spawn } from 'node:child_process';
import { CodedError, systemCode } from '@sepia/base/errors';

/** containerd's own client, and what it needs to find an image and its registry. */
export interface ContentFetch {
  /** Program `ctr`. */
  readonly ctr: string;
  /** Socket of containerd. */
  readonly address: string;
  readonly namespace: string;
  /** Folder of `hosts.toml` files: `ctr` does not read containerd's config. */
  readonly hostsDir: string;
  /** As `linux/arm64`; undefined: this machine's. */
  readonly platform?: string | undefined;
}

const KEPT_CHARS = 4_000;
/** How `ctr` says that nobody answers at containerd's socket, or that it may not ask there. */
const UNREACHED = /failed to dial|cannot access containerd socket/;

/** The words of the command that brings all of an image into the content store, and unpacks nothing. */
function fetchCommand(reference: string, options: ContentFetch): [program: string, args: string[]] {
  const platform = options.platform === undefined ? [] : ['--platform', options.platform];
  return [
    options.ctr,
    [
      ...['--address', options.address, '--namespace', options.namespace],
      ...['content', 'fetch', '--hosts-dir', options.hostsDir, ...platform, reference],
    ],
  ];
}

/**
 * Completes an image whose layers are shown but were never downloaded: containerd fetches them by its `hosts.toml`, so
 * through the agent, and checks each digest. Then what needs the blobs themselves works: export, commit, push.
 * @throws {CodedError} `START_FAILED` without `ctr`, `PEER_HTTP` with what it says
 */
export async function fetchContent(reference: string, options: ContentFetch): Promise<void> {
  const [program, args] = fetchCommand(reference, options);
  const child = spawn(program, args, { stdio: ['ignore', 'ignore', 'pipe'] });
  let said = '';
  // Without a descriptor for it there is no pipe, and an error comes.
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    said = (said + text).slice(-KEPT_CHARS);
  });
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('close', resolve);
    child.once('error', (error) => {
      const why = systemCode(error) === 'ENOENT' ? 'is not there; name it with --ctr' : error.message;
      reject(new CodedError('START_FAILED', { message: `${program} ${why}`, cause: error }));
    });
  });
  if (code !== 0) {
    const last = said.trim().split('\n').at(-1) || `exit ${code}`;
    throw new CodedError('PEER_HTTP', {
      message: `containerd did not fetch ${reference}: ${last}${UNREACHED.test(last) ? nobodyAt(options.address) : ''}`,
      detail: { address: options.address, namespace: options.namespace },
    });
  }
}

function nobodyAt(address: string): string {
  return `; start containerd, or name its socket with --address (now ${address})`;
}

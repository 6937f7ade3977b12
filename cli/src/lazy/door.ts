/** What a node says of itself; undefined where it could not be found out. */
export interface NodeFacts {
  readonly isRoot: boolean;
  readonly hasFuse: boolean;
  readonly hasErofs: boolean;
  /** `major.minor` of the kernel. */
  readonly kernel: Version | undefined;
  readonly containerd: Version | undefined;
  /** Whether `mkfs.erofs` makes images of tars (erofs-utils 1.7); undefined: it is not there. */
  readonly mkfsTakesTar: boolean | undefined;
  /** containerd's effective config (`containerd config dump`), as text. */
  readonly config: string | undefined;
  /** A small EROFS image could be mounted; the error otherwise. */
  readonly trialMount: 'ok' | string;
}

/** What is compared of a version: patches do not count. */
export type Version = readonly [major: number, minor: number];

/** Which way of showing layers a node can use, and what stands in the way of a better one. */
export interface DoorChoice {
  /** 1: stock containerd looks into our folder. 2: it asks our snapshotter. `none`: ordinary pulls. */
  readonly door: 1 | 2 | 'none';
  /** One line for each thing that stands in the way: of all doors, or of the first one. */
  readonly reasons: readonly string[];
}

const FIRST = { containerd: [2, 4], kernel: [6, 12] } as const;
/** Before Linux 6.9 readers would hang over a restart of the daemon. */
const SECOND = { containerd: [1, 6], kernel: [6, 9] } as const;

/**
 * Chooses how layers can be shown on a node. Door 1 is offered only where an ordinary layer works there too: the erofs
 * snapshotter unpacks those with `mkfs.erofs --tar`.
 */
export function chooseDoor(facts: NodeFacts): DoorChoice {
  const always = [
    facts.isRoot ? undefined : 'root is needed',
    facts.hasFuse ? undefined : '/dev/fuse is not there',
    facts.hasErofs ? undefined : 'the kernel has no EROFS (modprobe erofs)',
    facts.trialMount === 'ok' ? undefined : `a trial mount failed: ${facts.trialMount}`,
  ];
  const first = [
    ...always,
    tooOld('Linux', facts.kernel, FIRST.kernel, 'for EROFS images that are files'),
    tooOld('containerd', facts.containerd, FIRST.containerd, 'for layer_content_caches'),
    facts.mkfsTakesTar === true
      ? undefined
      : `mkfs.erofs ${facts.mkfsTakesTar === undefined ? 'was not found' : 'has no --tar'}; ordinary layers need it (erofs-utils 1.7)`,
    ...configReasons(facts.config),
  ].filter((one) => one !== undefined);
  if (first.length === 0) return { door: 1, reasons: [] };
  const second = [
    ...always,
    tooOld('Linux', facts.kernel, SECOND.kernel, 'to go on with reads after a restart'),
    tooOld('containerd', facts.containerd, SECOND.containerd, 'for snapshotters that find layers themselves'),
  ].filter((one) => one !== undefined);
  return second.length === 0 ? { door: 2, reasons: first } : { door: 'none', reasons: second };
}

/** The first `major.minor` in a text. */
export function parseVersion(text: string): Version | undefined {
  const [, major, minor] = /(\d+)\.(\d+)/.exec(text) ?? [];
  return major === undefined || minor === undefined ? undefined : [Number(major), Number(minor)];
}

function tooOld(what: string, found: Version | undefined, least: Version, why: string): string | undefined {
  if (found === undefined) return `${what} was not found; ${least.join('.')} is needed ${why}`;
  const isOld = found[0] < least[0] || (found[0] === least[0] && found[1] < least[1]);
  return isOld ? `${what} is ${found.join('.')}; ${least.join('.')} is needed ${why}` : undefined;
}

/** Keys of the erofs snapshotter that containerd refuses beside layer_content_caches, or that want files we do not make. */
function configReasons(config: string | undefined): string[] {
  if (config === undefined) return [];
  const section =
    /\[plugins\.(['"])io\.containerd\.snapshotter\.v1\.erofs\1\]([\s\S]*?)(?=\n\s*\[|$)/.exec(config)?.[2] ??
    '';
  const refused = [
    ['enable_fsverity', /^\s*enable_fsverity\s*=\s*true/m],
    ['set_immutable', /^\s*set_immutable\s*=\s*true/m],
    ['dmverity_mode = "on"', /^\s*dmverity_mode\s*=\s*(['"])on\1/m],
  ] as const;
  return refused
    .filter(([, pattern]) => pattern.test(section))
    .map(([key]) => `containerd's erofs snapshotter has ${key}, which does not go with layer_content_caches`);
}

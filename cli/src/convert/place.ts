import { existsSync, statSync } from 'node:fs';
import { CodedError } from '@sepia/base/errors';
import { type ImageReference, isThisMachine, parseImageReference } from '../registry/image-reference.ts';

/** Where an image is or goes: a folder or tar on disk, or a repository of a registry. */
export type Place =
  | {
      readonly kind: 'disk';
      readonly path: string;
      readonly isTar: boolean;
      /** Which image of several is meant. */
      readonly tag: string | undefined;
    }
  | {
      readonly kind: 'registry';
      /** As it is spoken to. */
      readonly url: string;
      /** Name under which credentials of the registry are kept. */
      readonly host: string;
      readonly repository: string;
      /** Tag or digest. */
      readonly reference: string;
      /** As the user would write it, without tag and digest. */
      readonly name: string;
      /** The name has no host, and nobody said where to look it up. */
      readonly isAssumed: boolean;
      /** `url` is a proxy of a cluster. */
      readonly isMember: boolean;
    };

interface PlaceOptions {
  /** A proxy of a cluster: every name goes through it. */
  readonly proxy?: string | undefined;
  /** Proxy for names without a host. */
  readonly defaultProxy: string;
  /** True: hosts other than this machine's are spoken to without TLS. */
  readonly plainHttp?: boolean | undefined;
  /** Which image of a layout or archive of several is read. */
  readonly sourceTag?: string | undefined;
}

const DOCKER_HUB = 'docker.io';
const DOCKER_HUB_URL = 'https://registry-1.docker.io';

/** The source: a path that exists, else a reference. @throws {CodedError} `REQUEST_INVALID` */
export function sourcePlace(text: string, options: PlaceOptions): Place {
  if (isPathLike(text) || existsSync(text)) {
    if (!existsSync(text)) throw new CodedError('REQUEST_INVALID', { message: `${text} is not there` });
    return { kind: 'disk', path: text, isTar: !statSync(text).isDirectory(), tag: options.sourceTag };
  }
  return registryPlace(text, options);
}

/** The target: a path (`./DIR`, `/DIR`, `FILE.tar`, or a folder that exists), else a reference. @throws {CodedError} `REQUEST_INVALID` */
export function targetPlace(text: string, options: PlaceOptions): Place {
  const isFolder = statSync(text, { throwIfNoEntry: false })?.isDirectory() === true;
  if (isPathLike(text) || isFolder)
    return { kind: 'disk', path: text, isTar: !isFolder && text.endsWith('.tar'), tag: undefined };
  const place = registryPlace(text, options);
  if (place.kind === 'registry' && place.reference.includes(':'))
    throw new CodedError('REQUEST_INVALID', { message: `${text}: a target needs a tag, not a digest` });
  return place;
}

/** The target where none was given: the same repository, the tag with the format behind it. @throws {CodedError} `REQUEST_INVALID` */
export function besideSource(source: Place, suffix: string): Place {
  if (source.kind === 'disk' || source.reference.includes(':'))
    throw new CodedError('REQUEST_INVALID', {
      message: 'say where the result goes: sepia convert SRC DST (only an image with a tag has a default)',
    });
  return { ...source, reference: `${source.reference}${suffix}`.slice(0, 128) };
}

/** A place as the user would write it. */
export function placeText(place: Place): string {
  if (place.kind === 'disk') return place.path;
  return `${place.name}${place.reference.includes(':') ? '@' : ':'}${place.reference}`;
}

function isPathLike(text: string): boolean {
  return /^\.{0,2}\//.test(text) || text.endsWith('.tar');
}

function registryPlace(text: string, { proxy, defaultProxy, plainHttp }: PlaceOptions): Place {
  const image = parseImageReference(text);
  const name = image.host === undefined ? image.repository : `${image.host}/${image.repository}`;
  const { repository, reference } = image;
  const isHere = image.host !== undefined && isThisMachine(image.host);
  if (proxy !== undefined || image.host === undefined) {
    const url = proxy ?? defaultProxy;
    const inside = isHere ? repository : name;
    const isAssumed = proxy === undefined;
    const where = { kind: 'registry', url, host: new URL(url).host, isAssumed, isMember: true } as const;
    return { ...where, repository: inside, reference, name };
  }
  const url = urlOf(image, isHere || plainHttp === true);
  const isHub = url === DOCKER_HUB_URL;
  const full = isHub && !repository.includes('/') ? `library/${repository}` : repository;
  const host = isHub ? 'https://index.docker.io/v1/' : image.host;
  const where = { kind: 'registry', url, host, isAssumed: false, isMember: false } as const;
  return { ...where, repository: full, reference, name };
}

function urlOf({ host }: ImageReference, isPlain: boolean): string {
  if (host === DOCKER_HUB || host === `index.${DOCKER_HUB}`) return DOCKER_HUB_URL;
  return `${isPlain ? 'http' : 'https'}://${host}`;
}

import { fc } from '@sepia/test-support/property';
import type { TarPart } from './tar-writer.ts';

/** Any byte but NUL and `/`: what a file name may hold. */
const nameByte = fc.integer({ min: 1, max: 255 }).filter((byte) => byte !== 0x2f);

export function arbitraryName(maxLength = 255): fc.Arbitrary<string> {
  return fc.oneof(
    { weight: 4, arbitrary: fc.constantFrom('a', 'b', 'c', 'bin', 'lib', 'etc') },
    {
      weight: 1,
      arbitrary: fc
        .array(nameByte, { minLength: 1, maxLength, size: 'max' })
        .map((all) => Buffer.from(all).toString('latin1')),
    },
  );
}

const path = fc.array(arbitraryName(), { minLength: 1, maxLength: 5 }).map((parts) => parts.join('/'));
const xattrs = fc
  .array(
    fc.tuple(
      fc.constantFrom('user.a', 'user.b', 'security.capability', 'trusted.x'),
      fc.uint8Array({ maxLength: 40 }),
    ),
    { maxLength: 3 },
  )
  .map((pairs) => new Map(pairs));

/** Entries of every type, with everything that the writer can say in both forms. */
export function arbitraryParts(maxLength = 20): fc.Arbitrary<TarPart[]> {
  const part = fc.record({
    typeFlag: fc.constantFrom('0', '0', '0', '1', '2', '3', '4', '5', '6'),
    name: path,
    linkName: fc.option(path, { nil: '' }),
    mode: fc.integer({ min: 0, max: 0o7777 }),
    uid: fc.oneof(fc.integer({ min: 0, max: 70_000 }), fc.constantFrom(3_000_000, 4_294_967_294)),
    gid: fc.oneof(fc.integer({ min: 0, max: 70_000 }), fc.constantFrom(3_000_000, 4_294_967_294)),
    userName: fc.constantFrom('', 'root', 'daemon'),
    mtimeSec: fc.integer({ min: -5_000_000_000, max: 20_000_000_000 }),
    mtimeNsec: fc.integer({ min: 0, max: 999_999_999 }),
    devMajor: fc.integer({ min: 0, max: 4095 }),
    devMinor: fc.integer({ min: 0, max: 100_000 }),
    xattrs,
    payload: fc.uint8Array({ maxLength: 3000, size: 'max' }),
  });
  return fc.array(
    part.map((one) => (one.typeFlag === '0' ? one : { ...one, payload: new Uint8Array() })),
    { maxLength },
  );
}

/** Cuts `bytes` at these places (fractions of the length). */
export function cutAt(bytes: Uint8Array, fractions: readonly number[]): Uint8Array[] {
  const places = [0, ...fractions.map((one) => Math.floor(one * bytes.length)), bytes.length].sort(
    (a, b) => a - b,
  );
  return places.slice(1).map((end, index) => bytes.subarray(places[index], end));
}

export const arbitraryCuts = fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 12 });

/** Names in UTF-8, nothing below a file; hard links lead to the entry before, the first one is a file. */
export function madeFit(parts: readonly TarPart[]): TarPart[] {
  const named = parts.map((part) => {
    const names = part.name.replaceAll(/[\x80-\xff]/g, 'u').split('/');
    return {
      ...part,
      name: names.map((name, index) => (index === names.length - 1 ? `f${name}` : `d${name}`)).join('/'),
    };
  });
  return named.map((part, index) => {
    const linkName = (part.linkName ?? '').replaceAll(/[\x80-\xff]/g, 'u');
    if (part.typeFlag !== '1') return { ...part, linkName };
    const before = named[index - 1];
    return before === undefined || before.typeFlag === '5' || before.name === part.name
      ? { ...part, typeFlag: '0' }
      : { ...part, linkName: before.name };
  });
}

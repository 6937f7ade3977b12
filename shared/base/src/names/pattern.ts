import picomatch from 'picomatch';
import { z } from 'zod';
import { throwIfBug } from '../failure.ts';

/** Longest pattern taken: as long as the longest repository name. */
const MAX_PATTERN_CHARS = 255;
/** Stars in one part of a path. */
const MAX_STARS = 2;
/** Parts with two stars, `**` or as `*a*`: each further one multiplies the time of a match. */
const MAX_WIDE_PARTS = 3;
/** Names that the braces of a pattern may stand for. */
const MAX_WAYS = 50;
const PATTERN_CHARS = /^[\w./*?[\]{},^-]+$/;
/** Braces without others in them. */
const BRACES = /\{([^{}]*)\}/;
const OPTIONS = { dot: true, nonegate: true, noextglob: true, strictBrackets: true } as const;

/** True for a repository name or tag that patterns of the config mean, see {@link matcherOf}. */
export type NameMatcher = (name: string) => boolean;

/**
 * A matcher of doublestar globs: `*` within one part of the path, `**` for any number of parts (`a/**` is `a` and all below it),
 * `?`, `[abc]`, `[^abc]`, `{x,y}`. True if any of them matches. @throws {TypeError} for a pattern that {@link patternFault} refuses
 */
export function matcherOf(patterns: readonly string[]): NameMatcher {
  for (const pattern of patterns) {
    const fault = patternFault(pattern);
    if (fault !== undefined) throw new TypeError(`pattern "${pattern}" ${fault}`);
  }
  const tests = patterns.flatMap(waysOf).map((way) => picomatch(way, OPTIONS));
  return (name) => tests.some((test) => test(name));
}

/** Why a text is no pattern, or undefined if it is one. */
export function patternFault(pattern: string): string | undefined {
  if (pattern === '') return 'is empty';
  if (pattern.length > MAX_PATTERN_CHARS) return `is longer than ${MAX_PATTERN_CHARS} characters`;
  if (pattern.startsWith('!')) return 'is negated: the first match wins, so put exceptions before the rule';
  if (pattern.includes('!')) return 'has a ! in it: write [^abc] for any character but these';
  if (!PATTERN_CHARS.test(pattern)) return 'has characters that no name has';
  if (count(pattern, '{') !== count(pattern, '}')) return 'has a brace that is not closed';
  if (/\{[^{}]*\.\.[^{}]*\}/.test(pattern)) return 'has a range in braces: write [1-3], or name each';
  const stars = starFault(pattern);
  if (stars !== undefined) return stars;
  return waysOf(pattern)
    .map(wayFault)
    .find((fault) => fault !== undefined);
}

/** The patterns that one with braces stands for: each then means what it means alone, `{a/**,b}` both `a` and what is below it. */
function waysOf(pattern: string): string[] {
  const found = BRACES.exec(pattern);
  if (found === null) return [pattern];
  const [braces, inside = ''] = found;
  const [before, after] = [pattern.slice(0, found.index), pattern.slice(found.index + braces.length)];
  return [...new Set(inside.split(',').flatMap((one) => waysOf(`${before}${one}${after}`)))];
}

/** What no name could match is a slip, and so is what means less than it looks like. */
function wayFault(way: string): string | undefined {
  const parts = way.split('/');
  if (parts.includes('')) return 'has an empty part: names neither begin nor end with a slash';
  if (/[{}]/.test(way)) return 'has a brace that is not closed';
  if (parts.some((part) => part.startsWith('.')))
    return 'has a part that begins with a dot, as no name does: * alone stands for any characters';
  if (parts.some((part) => part !== '**' && part.includes('**')))
    return 'has ** beside other characters: it stands for whole parts; write * within one';
  try {
    picomatch.makeRe(way, { ...OPTIONS, debug: true });
    return undefined;
  } catch (error) {
    throwIfBug(error);
    return `is not a pattern (${(error as Error).message})`;
  }
}

/** Config value: a list of patterns of which one must match. */
export function patterns(): z.ZodType<readonly string[]> {
  return z
    .array(
      z.string().superRefine((text, ctx) => {
        const fault = patternFault(text);
        if (fault !== undefined)
          ctx.addIssue({
            code: 'custom',
            message: `"${text.slice(0, 80)}" ${fault}; write e.g. library/* or team/**`,
          });
      }),
    )
    .min(1)
    .max(100) as unknown as z.ZodType<readonly string[]>;
}

/** Matches are regular expressions that try each place of each star: with many of them one name takes minutes. */
function starFault(pattern: string): string | undefined {
  let wide = 0;
  let stars = 0;
  let depth = 0;
  let ways = 1;
  const commas: number[] = [];
  for (const char of pattern) {
    if (char === '{') commas[++depth] = 0;
    else if (char === ',' && depth > 0) commas[depth]! += 1;
    else if (char === '}') ways *= 1 + (commas[depth--] ?? 0);
    else if (char === '/') stars = 0;
    if (depth > 1 && pattern.includes('*')) return 'has braces in braces beside a star';
    if (ways > MAX_WAYS) return `has braces that mean more than ${MAX_WAYS} names`;
    if (char !== '*') continue;
    stars += 1;
    if (stars === MAX_STARS) wide += 1;
    if (stars > MAX_STARS) return `has more than ${MAX_STARS} stars in one part`;
    if (wide > MAX_WIDE_PARTS) return `has more than ${MAX_WIDE_PARTS} parts with two stars`;
  }
  return undefined;
}

function count(text: string, part: string): number {
  return text.split(part).length - 1;
}

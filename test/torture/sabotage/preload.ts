import { SABOTAGES } from './names.ts';
import { sabotage } from './sabotage.ts';

/** Loaded before a member's own modules: breaks the process by the sabotage that the query of its address names. */
const asked = new URL(import.meta.url).searchParams.get('name');
const name = SABOTAGES.find((one) => one === asked);
if (name === undefined) throw new TypeError(`no sabotage ${asked}`);
sabotage(name);

// @ts-check
/** What can be done with the selected event: one list for the buttons, the menu and the keys. */

import { t } from "./i18n.js";
import {
    addEvent,
    canAdd,
    canSplit,
    duplicateEvent,
    moveEvent,
    removeEvent,
    splitEvent,
    spreadEvenly,
} from "./timeline_model.js";

/** @typedef {import("./timeline_view.js").TimelineView} TimelineView */

/**
 * @typedef {object} Command
 * @property {string} id also its icon's name
 * @property {() => string} label
 * @property {() => string} keys as people read them
 * @property {(key: string, command: boolean) => boolean} pressed whether a key, with Ctrl or Cmd, means it
 * @property {(view: TimelineView) => boolean} can whether it would do something
 * @property {(view: TimelineView) => void} run
 * @property {(view: TimelineView) => string} [why] why it would do nothing; such a command leaves the events as they are
 */

/** @param {...string} names */
const key = (...names) => (/** @type {string} */ pressed, /** @type {boolean} */ command) =>
    !command && names.includes(pressed.length === 1 ? pressed.toLowerCase() : pressed);

/** @param {string} name */
const withCommand = (name) => (/** @type {string} */ pressed, /** @type {boolean} */ command) => command && pressed === name;

/** @param {TimelineView} view */
const count = (view) => view.state.line.events.length;

/** @type {Command[]} */
export const COMMANDS = [
    {
        id: "add",
        label: () => t("Add an event after this one"),
        keys: () => "Insert",
        pressed: key("Insert"),
        can: ({ state }) => canAdd(state.line),
        run: (view) => view.apply(addEvent(view.state.line, view.state.selected, view.newPrompt())),
    },
    {
        id: "duplicate",
        label: () => t("Duplicate the event"),
        keys: () => "D",
        pressed: key("d"),
        can: ({ state }) => state.line.events.length > 0 && canAdd(state.line),
        run: (view) => view.apply(duplicateEvent(view.state.line, view.state.selected)),
    },
    {
        id: "split",
        label: () => t("Split the event"),
        keys: () => "S",
        pressed: key("s"),
        can: ({ state }) => canSplit(state.line, state.selected),
        run: (view) => view.apply(splitEvent(view.state.line, view.state.selected, view.cut)),
    },
    {
        id: "duration",
        label: () => t("Set the duration"),
        keys: () => "T",
        pressed: key("t"),
        can: (view) => count(view) > 1,
        run: (view) => view.editDuration(),
    },
    {
        id: "edit",
        label: () => t("Edit the prompt"),
        keys: () => "Enter",
        pressed: key("Enter", "F2"),
        can: (view) => count(view) > 0,
        run: (view) => view.edit(),
    },
    {
        id: "remove",
        label: () => t("Delete the event"),
        keys: () => "Delete",
        pressed: key("Delete", "Backspace"),
        can: (view) => count(view) > 1,
        run: (view) => view.apply(removeEvent(view.state.line, view.state.selected)),
    },
    {
        id: "earlier",
        label: () => t("Move the event earlier"),
        keys: () => t("Ctrl+Left"),
        pressed: withCommand("ArrowLeft"),
        can: ({ state }) => state.selected > 0,
        run: (view) => view.apply(moveEvent(view.state.line, view.state.selected, view.state.selected - 1)),
    },
    {
        id: "later",
        label: () => t("Move the event later"),
        keys: () => t("Ctrl+Right"),
        pressed: withCommand("ArrowRight"),
        can: ({ state }) => state.selected < state.line.events.length - 1,
        run: (view) => view.apply(moveEvent(view.state.line, view.state.selected, view.state.selected + 1)),
    },
    {
        id: "even",
        label: () => t("Give all events the same duration"),
        keys: () => "E",
        pressed: key("e"),
        can: ({ state }) => {
            const starts = (/** @type {import("./timeline_model.js").Timeline} */ line) => line.events.map(({ start }) => start);
            return state.line.events.length > 1 && String(starts(spreadEvenly(state.line))) !== String(starts(state.line));
        },
        run: (view) => view.apply({ line: spreadEvenly(view.state.line), selected: view.state.selected }),
    },
    {
        id: "redo",
        label: () => t("Redo this event"),
        keys: () => "",
        pressed: () => false,
        why: (view) => view.actions.whyNotRedo(view.state.selected),
        can: (view) => count(view) > 0,
        run: (view) => view.actions.redo(view.state.selected),
    },
];

/** @param {string} id */
export const command = (id) => /** @type {Command} */ (COMMANDS.find((one) => one.id === id));

/** Whether a command can be given now. @param {Command} one @param {TimelineView} view */
export const enabled = (one, view) => (one.why ? !one.why(view) : view.state.editable) && one.can(view);

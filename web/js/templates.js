// @ts-check
// The example graphs in the order of their numbers: ComfyUI lists a pack's templates as its disk does.

// @ts-ignore served by ComfyUI
import { app } from "../../../scripts/app.js";
// @ts-ignore
import { api } from "../../../scripts/api.js";

const [, PACK] = /\/extensions\/([^/]+)\//.exec(import.meta.url) ?? [];

app.registerExtension({
  name: "longtake.templates",

  setup() {
    const list = api.getWorkflowTemplates;
    if (!list || !PACK) return;
    api.getWorkflowTemplates = async function () {
      const templates = await list.apply(this, arguments);
      templates?.[decodeURIComponent(PACK)]?.sort?.();
      return templates;
    };
  },
});

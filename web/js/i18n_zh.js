// @ts-check
/** Chinese texts of the pack's own widgets. The nodes' names and tooltips are in locales/zh/nodeDefs.json. */

/** @type {Record<string, string>} */
export const ZH = {
    // Timeline
    "Add an event (Insert)": "添加事件（Insert）",
    "Split the event (S)": "拆分事件（S）",
    "Delete the event (Delete)": "删除事件（Delete）",
    "Move the event earlier (Ctrl+Left)": "前移事件（Ctrl+←）",
    "Move the event later (Ctrl+Right)": "后移事件（Ctrl+→）",
    "Give all events the same duration": "让所有事件时长相同",
    "Zoom out": "缩小",
    "Zoom in on the selected event": "放大到所选事件",
    "The whole video: {length} frames at {fps} per second": "整段视频：{length} 帧，每秒 {fps} 帧",
    "Drag a border or a block. Keys: Left, Right move the border before the block (Alt: behind it; Shift: by a second), Ctrl+Left, Ctrl+Right move the block, Up, Down select, Enter edits, Delete removes, S splits, Insert adds.":
        "拖动边界或色块。按键：← → 移动色块前的边界（Alt：色块后的边界；Shift：每次一秒），Ctrl+← Ctrl+→ 移动色块，↑ ↓ 选择，Enter 编辑，Delete 删除，S 拆分，Insert 添加。",
    Events: "事件",
    "Event {i} of {count}": "第 {i} 个事件，共 {count} 个",
    "Prompt of the selected event": "所选事件的提示词",
    "new prompt": "新提示词",
    "no global prompt": "没有全局提示词",
    "The global prompt holds for the whole video": "全局提示词对整段视频有效",
    "(linked)": "（来自连线）",
    "frame {frame}": "第 {frame} 帧",
    "frames {start}\u2013{end}": "第 {start}\u2013{end} 帧",
    "{time} long": "时长 {time}",
    "No events yet: add one with +, or write them above.": "还没有事件：用 + 添加，或写在上面的文本框里。",
    "The events come from a link; they are read when the graph runs.": "事件来自连线，运行时才会读取。",
    "Drawn with this node's own {names}: the linked value is not known before the run.":
        "按本节点自己的 {names} 绘制：连线的值在运行前未知。",
    "The server answers {status}.": "服务器返回 {status}。",
    "The server does not answer ({error}). The text above can still be edited.":
        "服务器没有回应（{error}）。上面的文本仍可编辑。",
    // Windows beneath the timeline
    "{count} windows, each in the colour of its prompt": "{count} 个窗口，颜色表示各自的提示词",
    "shifted anew at every step: the first one is shown": "每一步重新移动：这里是第一步",
    "{compression} frames per latent frame": "每个潜帧 {compression} 帧",
    "Window {i} of {count}: frames {start}\u2013{end}": "第 {i} 个窗口，共 {count} 个：第 {start}\u2013{end} 帧",
    "event {event}": "事件 {event}",
    "event {event} ({percent}%)": "事件 {event}（{percent}%）",
    "global prompt": "全局提示词",
    "The video fits into one window: only the global prompt acts.": "视频不长于一个窗口：只有全局提示词起作用。",
    "No window has its centre in event {named}: unused.": "没有窗口的中心落在事件 {named} 中：不会用到。",
    "{count} events hold no window's centre and stay unused: {named} ...":
        "{count} 个事件中没有任何窗口的中心，不会用到：{named} …",
    // Window chart
    "Step {step} of {steps}: {windows} windows": "第 {step} 步，共 {steps} 步：{windows} 个窗口",
    ", {count} global with weight {weight}": "，{count} 个全局窗口，权重 {weight}",
    "about {ratio}x plain windows": "约为普通窗口的 {ratio} 倍",
    "{ratio}x plain windows": "普通窗口的 {ratio} 倍",
    " + {count} global": " + {count} 个全局窗口",
    "{local} windows per step": "每步 {local} 个窗口",
    ", {evaluations} window evaluations in {steps} steps": "，{steps} 步共 {evaluations} 次窗口计算",
    " with CFG": "（含 CFG）",
    "length is not known: drawn for {frames} frames": "长度未知：按 {frames} 帧绘制",
    "not longer than the window: one window, as without this node": "不长于一个窗口：只有一个窗口，与没有本节点时相同",
    "{frames} latent frames of {compression}, window {window}, overlap {overlap}":
        "{frames} 个潜帧（每个 {compression} 帧），窗口 {window}，重叠 {overlap}",
    "shifts are examples": "偏移仅为示例",
    "assuming {compression} frames per latent frame until the first run": "首次运行前假定每个潜帧 {compression} 帧",
    "Step {step}, frame {frame} (latent {latent}): window {windows}": "第 {step} 步，第 {frame} 帧（潜帧 {latent}）：窗口 {windows}",
    "windows of each step": "每一步的窗口",
    "no chart: {error}": "没有图表：{error}",
    // Report
    Report: "报告",
    "Report: none yet": "报告：尚无",
    "Refused: see below": "被拒绝：见下文",
    "{node} (node {id}) was refused: nothing that needs it was run": "{node}（节点 {id}）被拒绝：依赖它的部分都没有运行",
    // Filmstrip
    "Frames of the whole video": "整段视频的帧",
    hide: "隐藏",
    "Hide the filmstrip until the next run": "隐藏胶片预览，直到下次运行",
    "{steps} steps in {time}": "{steps} 步，用时 {time}",
    "step {step}/{steps}": "第 {step}/{steps} 步",
    "{what}, {time} left": "{what}，剩余 {time}",
};

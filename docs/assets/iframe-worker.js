/* A browser starts no worker for pages that are opened from files, and the search is one. Here its script runs in a
   hidden frame instead, which has a global scope of its own as a worker has. Messages go both ways as events. */
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(address) {
      super()
      const frame = document.createElement("iframe")
      frame.hidden = true
      document.body.appendChild(frame)
      const inside = frame.contentWindow
      inside.postMessage = data => this.dispatchEvent(new MessageEvent("message", { data }))
      this.started = new Promise(resolve => {
        const script = inside.document.createElement("script")
        script.src = new URL(address, location.href).href
        script.onload = () => resolve(inside)
        inside.document.body.appendChild(script)
      })
      this.frame = frame
    }

    postMessage(data) {
      this.started.then(inside => inside.dispatchEvent(new inside.MessageEvent("message", { data })))
    }

    terminate() {
      this.frame.remove()
    }
  }
}

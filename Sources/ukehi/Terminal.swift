// What is only for people who watch: colour, and how far a long reading has come.

import Synchronization

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

/// The colours that terminals agree on.
enum Ink: String {
    case bold = "1"
    case red = "31"
    case green = "32"
    case yellow = "33"
    case cyan = "36"
}

/// Whether a person watches what goes to standard output.
let isOutputWatched = isatty(STDOUT_FILENO) == 1

/// Whether standard output may be coloured: a terminal, and NO_COLOR (no-color.org) is not set.
let isOutputColoured = isOutputWatched && !isSet("NO_COLOR") && !isDumbTerminal

/// `text` in a colour, where that is wanted; nothing that is stored may be printed through it.
func ink(_ text: String, _ ink: Ink) -> String {
    isOutputColoured ? "\u{1b}[\(ink.rawValue)m\(text)\u{1b}[0m" : text
}

private func isSet(_ name: String) -> Bool {
    guard let value = getenv(name) else { return false }
    return value.pointee != 0
}

private var isDumbTerminal: Bool {
    guard let value = getenv("TERM") else { return false }
    return String(cString: value) == "dumb"
}

/// A line on standard error that says how far a long reading has come: after two seconds, and again
/// and again; where nobody watches, every 15 seconds.
final class ProgressLine: Sendable {
    private struct State {
        var next: UInt64
        var isShown = false
    }
    private let what: String
    private let state: Mutex<State>

    private static let patience: UInt64 = 2_000_000_000
    private static let unwatchedPause: UInt64 = 15_000_000_000
    private static let pause: UInt64 = 200_000_000

    init(_ what: String) {
        self.what = what
        let first = isErrorWatched ? ProgressLine.patience : ProgressLine.unwatchedPause
        state = Mutex(State(next: BenchClock.now() + first))
    }

    /// Shows it if that is due; `total` nil: not known.
    func show(_ done: UInt64, of total: UInt64?) {
        let now = BenchClock.now()
        let isDue = state.withLock { state in
            guard now >= state.next else { return false }
            state.next = now + (isErrorWatched ? ProgressLine.pause : ProgressLine.unwatchedPause)
            state.isShown = true
            return true
        }
        guard isDue else { return }
        guard let total else {
            let line = "\(what): \(byteText(done))"
            if isErrorWatched { printUnended("\r\u{1b}[K\(line)") } else { printError(line) }
            return
        }
        let percent = total == 0 ? 100 : min(done, total) * 100 / total
        let line = "\(what): \(percent) % of \(byteText(total))"
        if isErrorWatched {
            let width = 30
            let filled = Int(percent) * width / 100
            let bar =
                String(repeating: "█", count: filled)
                + String(repeating: "·", count: width - filled)
            printUnended("\r\u{1b}[K\(bar) \(line)")
        } else {
            printError(line)
        }
    }

    /// Takes the line away again.
    func end() {
        let isShown = state.withLock { $0.isShown }
        if isShown, isErrorWatched { printUnended("\r\u{1b}[K") }
    }
}

/// `1.5 MiB`.
func byteText(_ bytes: UInt64) -> String {
    if bytes < 1024 { return "\(bytes) B" }
    var value = Double(bytes) / 1024
    for unit in ["KiB", "MiB"] {
        if value < 1024 { return "\(BenchFormat.ratio(value)) \(unit)" }
        value /= 1024
    }
    return "\(BenchFormat.ratio(value)) GiB"
}

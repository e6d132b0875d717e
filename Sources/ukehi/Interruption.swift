// Ctrl-C in the middle of work that has something to clear away.

import Dispatch
import Glibc

/// While it lives, SIGINT, SIGTERM and SIGHUP are told instead of ending the process.
final class Interruption {
    private let sources: [any DispatchSourceSignal]

    /// `told` is called with the signal, on any thread.
    init(_ told: @escaping @Sendable (_ signal: Int32) -> Void) {
        sources = [SIGINT, SIGTERM, SIGHUP].map { number in
            signal(number, SIG_IGN)
            let source = DispatchSource.makeSignalSource(signal: number, queue: .global())
            source.setEventHandler { told(number) }
            source.resume()
            return source
        }
    }

    /// Runs what clears away, and ends the process as a signal would.
    convenience init(clearing clear: @escaping @Sendable () -> Void) {
        self.init { signal in
            clear()
            // What a shell reports of a process that a signal has ended.
            exit(128 + signal)
        }
    }

    deinit {
        for source in sources { source.cancel() }
        for number in [SIGINT, SIGTERM, SIGHUP] { signal(number, SIG_DFL) }
    }
}

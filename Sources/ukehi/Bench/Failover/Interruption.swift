// Ctrl-C in the middle of a run that has processes and directories to clear away.

import Dispatch
import Glibc

/// Runs what clears away when the process is told to end, and ends it.
final class Interruption {
    private let sources: [any DispatchSourceSignal]

    /// From now on SIGINT, SIGTERM and SIGHUP run `clear` and end the process.
    init(_ clear: @escaping @Sendable () -> Void) {
        sources = [SIGINT, SIGTERM, SIGHUP].map { number in
            signal(number, SIG_IGN)
            let source = DispatchSource.makeSignalSource(signal: number, queue: .global())
            source.setEventHandler {
                clear()
                // What a shell reports of a process that a signal has ended.
                exit(128 + number)
            }
            source.resume()
            return source
        }
    }

    deinit {
        for source in sources { source.cancel() }
        for number in [SIGINT, SIGTERM, SIGHUP] { signal(number, SIG_DFL) }
    }
}

// Threads for a moment: what opening a log reads side by side.

import Synchronization
import UkehiEnvironment

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

/// Runs pieces of work on the caller's thread and some more, which end with the last piece.
package struct ThreadRunner: ParallelRunner {
    package let width: Int

    /// As many threads as there are processors, at most eight: beyond that the memory they take and the
    /// disk they share are the bound.
    package init() {
        self.init(width: min(Int(sysconf(Int32(_SC_NPROCESSORS_ONLN))), 8))
    }

    package init(width: Int) { self.width = max(width, 1) }

    package func forEach(_ count: Int, _ work: @escaping @Sendable (Int) -> Void) {
        let pieces = Pieces(count, work)
        var threads: [pthread_t] = []
        for _ in 1..<max(min(width, count), 1) {
            var thread = pthread_t()
            let context = Unmanaged.passRetained(pieces)
            let result = pthread_create(
                &thread, nil,
                { raw in
                    guard let raw else { return nil }
                    nameThisThread("ukehi-open")
                    Unmanaged<Pieces>.fromOpaque(raw).takeRetainedValue().run()
                    return nil
                }, context.toOpaque())
            guard result == 0 else {
                // Fewer threads are only slower.
                context.release()
                break
            }
            threads.append(thread)
        }
        pieces.run()
        for thread in threads { pthread_join(thread, nil) }
    }
}

/// The positions that no thread has taken yet.
private final class Pieces: Sendable {
    private let next = Atomic(0)
    private let count: Int
    private let work: @Sendable (Int) -> Void

    init(_ count: Int, _ work: @escaping @Sendable (Int) -> Void) {
        self.count = count
        self.work = work
    }

    func run() {
        while true {
            let position = next.add(1, ordering: .relaxed).oldValue
            guard position < count else { return }
            work(position)
        }
    }
}

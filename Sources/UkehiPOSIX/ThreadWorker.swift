// One thread that does blocking work in the order given: apply, reads of older log, bootstrap.

import UkehiEnvironment

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

// The type of setpriority's first argument is not the same everywhere.
#if canImport(Glibc)
    private let backgroundScope = __priority_which_t(PRIO_PROCESS.rawValue)
#else
    private let backgroundScope = PRIO_PROCESS
#endif

/// A ``Worker`` on a thread of its own, which ends with ``stop()``.
package final class ThreadWorker: Worker, @unchecked Sendable {
    // Safety: `queue` and `isStopping` are touched only under `mutex`; both pthread objects live as
    // long as this object, which the thread itself retains.
    private let mutex: UnsafeMutablePointer<pthread_mutex_t>
    private let condition: UnsafeMutablePointer<pthread_cond_t>
    private var queue: [@Sendable () -> Void] = []
    private var isStopping = false
    private var hasEnded = false

    /// What a background thread's share of a busy processor is smaller by: nice 5 is a third of an ordinary
    /// thread's. Where a processor is free it has all of it.
    private static let backgroundNiceness: Int32 = 5

    /// Starts the thread. `name` is what debuggers show, cut to 15 bytes.
    ///
    /// - Parameter isBackground: It gives way to others where processors are busy.
    package init(name: String, isBackground: Bool = false) {
        mutex = .allocate(capacity: 1)
        condition = .allocate(capacity: 1)
        pthread_mutex_init(mutex, nil)
        pthread_cond_init(condition, nil)
        var thread = pthread_t()
        let context = Unmanaged.passRetained(
            ThreadStart(self, String(name.prefix(15)), isBackground))
        let result = pthread_create(
            &thread, nil,
            { raw in
                guard let raw else { return nil }
                let start = Unmanaged<ThreadStart>.fromOpaque(raw).takeRetainedValue()
                nameThisThread(start.name)
                // Of a thread, on Linux, and never refused: it is the other way that needs a right.
                if start.isBackground {
                    setpriority(backgroundScope, 0, ThreadWorker.backgroundNiceness)
                }
                start.worker.loop()
                return nil
            }, context.toOpaque())
        guard result == 0 else { fatalError("a thread could not be started: errno \(result)") }
        pthread_detach(thread)
    }

    deinit {
        pthread_mutex_destroy(mutex)
        pthread_cond_destroy(condition)
        mutex.deallocate()
        condition.deallocate()
    }

    package func run(_ work: @escaping @Sendable () -> Void) {
        pthread_mutex_lock(mutex)
        if !isStopping {
            queue.append(work)
            pthread_cond_broadcast(condition)
        }
        pthread_mutex_unlock(mutex)
    }

    package func stop() {
        pthread_mutex_lock(mutex)
        isStopping = true
        pthread_cond_broadcast(condition)
        while !hasEnded { pthread_cond_wait(condition, mutex) }
        pthread_mutex_unlock(mutex)
    }

    private func loop() {
        var batch: [@Sendable () -> Void] = []
        while true {
            pthread_mutex_lock(mutex)
            while queue.isEmpty && !isStopping { pthread_cond_wait(condition, mutex) }
            swap(&batch, &queue)
            let isLast = batch.isEmpty
            if isLast {
                hasEnded = true
                pthread_cond_broadcast(condition)
            }
            pthread_mutex_unlock(mutex)
            if isLast { return }
            for work in batch { work() }
            batch.removeAll(keepingCapacity: true)
        }
    }
}

private final class ThreadStart {
    let worker: ThreadWorker
    let name: String
    let isBackground: Bool
    init(_ worker: ThreadWorker, _ name: String, _ isBackground: Bool) {
        self.worker = worker
        self.name = name
        self.isBackground = isBackground
    }
}

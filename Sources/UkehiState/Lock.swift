// A lock with separate lock and unlock, for sections that span calls (a store's batch, a pinned
// view).

import UkehiBase

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

/// A mutual exclusion lock; the thread that locked it unlocks it. Not recursive.
package final class Lock: @unchecked Sendable {
    // Safety: the address is fixed for the object's life, and pthread guards what is behind it.
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)

    package init() {
        mutex.initialize(to: pthread_mutex_t())
        let result = pthread_mutex_init(mutex, nil)
        invariant(result == 0, "a mutex cannot be made: \(result)")
    }

    deinit {
        pthread_mutex_destroy(mutex)
        mutex.deinitialize(count: 1)
        mutex.deallocate()
    }

    package func lock() {
        let result = pthread_mutex_lock(mutex)
        invariant(result == 0, "a mutex cannot be locked: \(result)")
    }

    package func unlock() {
        let result = pthread_mutex_unlock(mutex)
        invariant(result == 0, "a mutex cannot be unlocked: \(result)")
    }

    /// Gives the lock up until `condition` is signalled, or for no reason; has it again on return.
    fileprivate func wait(_ condition: UnsafeMutablePointer<pthread_cond_t>) {
        let result = pthread_cond_wait(condition, mutex)
        invariant(result == 0, "a lock cannot be waited with: \(result)")
    }

    package func withLock<R, E: Error>(_ body: () throws(E) -> R) throws(E) -> R {
        lock()
        defer { unlock() }
        return try body()
    }
}

/// What threads wait for under a ``Lock``.
final class Condition: @unchecked Sendable {
    // Safety: the address is fixed for the object's life, and pthread guards what is behind it.
    private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)

    init() {
        condition.initialize(to: pthread_cond_t())
        let result = pthread_cond_init(condition, nil)
        invariant(result == 0, "a condition cannot be made: \(result)")
    }

    deinit {
        pthread_cond_destroy(condition)
        condition.deinitialize(count: 1)
        condition.deallocate()
    }

    /// Under `lock`: returns, with the lock held again, after ``signal()`` or for no reason.
    func wait(_ lock: Lock) { lock.wait(condition) }
    /// One of those who wait goes on.
    func signal() { pthread_cond_signal(condition) }
}

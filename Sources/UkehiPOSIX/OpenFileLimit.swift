// How many files and connections this process may have open.

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

/// The process's limit of open files (`ulimit -n`). Files of the log and of the state store count, and each
/// connection does.
package enum OpenFileLimit {
    /// What holds now; `Int.max` where there is none.
    package static var current: Int { limits().map { clamped($0.rlim_cur) } ?? .max }

    /// Raises it as far as the process may. The usual 1,024 is for programs that wait with `select`, which
    /// this one does not.
    package static func raise() {
        guard var limits = limits(), limits.rlim_cur < limits.rlim_max else { return }
        limits.rlim_cur = limits.rlim_max
        #if canImport(Glibc)
            _ = setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limits)
        #else
            _ = setrlimit(RLIMIT_NOFILE, &limits)
        #endif
    }

    private static func limits() -> rlimit? {
        var limits = rlimit()
        #if canImport(Glibc)
            let result = getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limits)
        #else
            let result = getrlimit(RLIMIT_NOFILE, &limits)
        #endif
        return result == 0 ? limits : nil
    }

    private static func clamped(_ limit: rlim_t) -> Int { Int(clamping: limit) }
}

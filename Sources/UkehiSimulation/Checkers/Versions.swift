// A key's version never goes back, whatever becomes of the regions that hold it (DESIGN 6): compare-and-set by
// version would be carried out on a value that it has not seen.

import UkehiBase

enum Versions {
    /// Looks at what clients were told of single keys: versions of what they wrote, or found.
    static func problem(_ history: [HistoryOperation]) -> String? {
        struct Told {
            var call: UInt64
            var ret: UInt64
            var version: UInt64
            var isWrite: Bool
        }
        var told: [Int: [Told]] = [:]
        for operation in history {
            guard let version = operation.version, let ret = operation.ret else { continue }
            let key: Int
            let isWrite: Bool
            switch operation.action {
            case .get(let found): (key, isWrite) = (found, false)
            case .put(let written, _), .delete(let written), .compareAndSet(let written, _, _),
                .increment(let written):
                (key, isWrite) = (written, true)
            case .scan: continue
            }
            told[key, default: []].append(
                Told(call: operation.call, ret: ret, version: version, isWrite: isWrite))
        }
        for (key, own) in told.sorted(by: { $0.key < $1.key }) {
            let writes = own.filter(\.isWrite).map(\.version)
            if Set(writes).count < writes.count {
                return "two writes of key \(key) were told the same version"
            }
            // Of those that had ended when the next one was called, the greatest.
            let ended = own.sorted { $0.ret < $1.ret }
            var next = 0
            var greatest: UInt64 = 0
            for operation in own.sorted(by: { $0.call < $1.call }) {
                while next < ended.count, ended[next].ret < operation.call {
                    greatest = max(greatest, ended[next].version)
                    next += 1
                }
                let least = operation.isWrite ? greatest + 1 : greatest
                if operation.version < least {
                    return "key \(key) was of version \(greatest), then \(operation.version) was "
                        + (operation.isWrite ? "written" : "read")
                }
            }
        }
        return nil
    }
}

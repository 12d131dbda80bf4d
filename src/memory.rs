//! What the C library is told about memory, once, before there is a second thread.

/// Most arenas of the C library's allocator. It would make eight a core, hand threads that come and go a new one now and then,
/// and keep what they leave in each: a service that attaches and detaches streams for days would grow by it.
const ARENAS: i32 = 2;

/// Tells the allocator to make do with few arenas; `MALLOC_ARENA_MAX` goes before it.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "a setting of the C library, made while there is one thread")]
pub fn make_do_with_few_arenas() {
    if std::env::var_os("MALLOC_ARENA_MAX").is_none() {
        // SAFETY: mallopt only stores the number; it fails by giving 0, which changes nothing.
        let _ = unsafe { libc::mallopt(libc::M_ARENA_MAX, ARENAS) };
    }
}

/// Other C libraries are left as they are.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn make_do_with_few_arenas() {
    let _ = ARENAS;
}

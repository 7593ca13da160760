pub mod backward;
